from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon
import pytest

from graphopt.errors import ModelError
from graphopt.graph.forms import FORMS, form_of, from_message, to_message
from graphopt.testing import MODELS, run_model


def test_a_message_is_handed_back_itself() -> None:
    model = MODELS["mlp"]()
    assert form_of(model) == "onnx.ModelProto"
    assert to_message(model) is model
    assert from_message(model, "onnx.ModelProto") is model


@pytest.mark.parametrize("form", ["onnx_graphsurgeon.Graph", "onnx_ir.Model"])
def test_a_model_goes_through_another_form_and_answers_the_same(form: str) -> None:
    pytest.importorskip(form.partition(".")[0])
    model = MODELS["mlp"]()
    other = from_message(model, form)
    assert form_of(other) == form
    back = to_message(other)
    assert [node.op_type for node in back.graph.node] == [n.op_type for n in model.graph.node]
    answers, expected = run_model(back), run_model(model)
    assert answers.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(answers[name], value)


def test_weights_in_files_are_read_and_the_model_stays_as_it_is(tmp_path: Path) -> None:
    onnx_ir = pytest.importorskip("onnx_ir")
    model = MODELS["mlp"]()
    onnx.save(MODELS["mlp"](), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    lazy = onnx_ir.load(tmp_path / "m.onnx")
    message = to_message(lazy)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in message.graph.initializer}
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(values[tensor.name], onnx.numpy_helper.to_array(tensor))
    kinds = {type(v.const_value) for v in lazy.graph.initializers.values()}
    assert kinds == {onnx_ir.ExternalTensor}


def test_a_model_that_cannot_be_written_is_one_line() -> None:
    broken: Any = onnx_graphsurgeon.Graph(opset="none")
    with pytest.raises(ModelError, match=r"the onnx_graphsurgeon.Graph cannot be written as ONNX"):
        to_message(broken)


@pytest.mark.parametrize("other", [3, None, "a.onnx", b"bytes", onnx.GraphProto(), object])
def test_other_objects_have_no_form(other: object) -> None:
    assert form_of(other) is None


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    with pytest.raises(ModelError, match=r"onnx_ir\.Model needs onnx_ir; pip install onnx-ir"):
        from_message(MODELS["mlp"](), "onnx_ir.Model")


def test_no_library_is_imported_to_look() -> None:
    script = (
        "import sys, onnx; from graphopt.graph.forms import form_of; form_of(onnx.ModelProto());"
        f"print([f for f in {FORMS[1:]!r} if f.partition('.')[0] in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
