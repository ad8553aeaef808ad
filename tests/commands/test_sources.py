from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon
import pytest

import graphopt
from graphopt.commands.sources import load, path_of
from graphopt.errors import UsageError
from graphopt.testing import MODELS


def other_form(form: str, model: onnx.ModelProto) -> Any:
    if form == "graphsurgeon":
        return onnx_graphsurgeon.import_onnx(model)
    return pytest.importorskip("onnx_ir").from_proto(model)


@pytest.mark.parametrize("form", ["graphsurgeon", "ir"])
def test_commands_take_models_of_other_libraries(form: str) -> None:
    model = MODELS["mlp"]()
    given = other_form(form, model)
    result = graphopt.optimize(given, "mask-weights{sparsity=0.5}")
    assert [record.status for record in result.report.passes] == ["done"]
    assert graphopt.inspect(given, passes=False).nodes == len(model.graph.node)
    compared = graphopt.compare(given, result.model)
    assert compared.quality is not None
    assert compared.quality.samples > 0
    assert graphopt.bench(given, rounds=1).timings[0].path is None
    alike = graphopt.compare(model, given).cosine
    assert alike == pytest.approx({value.name: 1 for value in model.graph.output})


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself
def test_a_program_exported_by_torch() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    program = torch.onnx.export(torch.nn.Linear(4, 3).eval(), (torch.zeros(2, 4),), dynamo=True)
    graph = load(program)
    (output,) = graph.main.proto.output
    assert [d.dim_value for d in output.type.tensor_type.shape.dim] == [2, 3]
    weights = [graph.read(t) for t in graph.main.initializers.values()]
    expected = program.model.graph.initializers.values()
    for values, tensor in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(values, tensor.const_value.numpy())


@pytest.mark.parametrize("wrong", [3, None, onnx.GraphProto(), [b"two"]])
def test_what_is_no_model_is_refused_in_a_line(wrong: Any) -> None:
    name = type(wrong).__name__
    with pytest.raises(UsageError, match=f"cannot come from {name}; give a path, bytes, onnx.M"):
        graphopt.optimize(wrong)
    for command in (graphopt.inspect, graphopt.bench):
        with pytest.raises(UsageError, match=f"cannot come from {name}"):
            command(wrong)


def test_the_path_of_a_model() -> None:
    assert path_of("a.onnx") == path_of(Path("a.onnx")) == Path("a.onnx")
    assert path_of(b"") is path_of(None) is path_of(MODELS["mlp"]()) is None
