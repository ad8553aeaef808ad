"""The passes ``distill`` and ``finetune`` on small nets: what they change, and what they leave."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract.spec import parse_passes
from graphopt.errors import DataError, GraphoptError, UsageError
from graphopt.graph import io
from graphopt.graph.tensors import Array
from graphopt.run.record import PassRecord
from graphopt.testing import apply_passes, model_from_text

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,2,6,6] x, float[5] extra) => (float[N,5] y, float[N,4,6,6] aside) {
  c = Conv <pads = [1,1,1,1]> (x, W)
  n = BatchNormalization (c, scale, shift, mean, variance)
  aside = Relu (n)
  g = GlobalAveragePool (aside)
  f = Flatten (g)
  h = Gemm (f, V, b)
  k = Constant <value = float {1.5}> ()
  m = Clip (h, low)
  o = Mul (m, k)
  y = Add (o, extra)
}"""
FOUR = dict.fromkeys(("scale", "shift", "mean", "variance"), (4,))
SHAPES: dict[str, Any] = {
    "W": (4, 2, 3, 3),
    **FOUR,
    "V": (4, 5),
    "b": (5,),
    "extra": np.zeros(5, np.float32),
    "low": np.array(-1e9, np.float32),
}
SHORT = "steps=20,batch=16,lr=0.02,evaluations=2,held_out=0.25"


def net(seed: int = 0) -> onnx.ModelProto:
    """Two outputs, an input with a default, numbers that are no weights."""
    return model_from_text(TEXT, SHAPES, seed=seed)


def data(**labels: Array) -> dict[str, Array]:
    x = np.random.default_rng(0).normal(size=(48, 2, 6, 6)).astype(np.float32)
    return {"x": x, **labels}


def constants(model: onnx.ModelProto) -> dict[str, bytes]:
    return {tensor.name: tensor.raw_data for tensor in model.graph.initializer}


def run(spec: str, **given: Any) -> tuple[onnx.ModelProto, PassRecord]:
    """A pass run by the pipeline, without the timing at its end."""
    teacher = given.pop("teacher", net(0))
    graph, (record,) = apply_passes(
        parse_passes(spec),
        net(1),
        target="host",
        strict=True,
        teacher=teacher and io.load(teacher),
        **{"train": data(), "samples": None, **given},
    )
    return graph.to_model(), record


def changed(spec: str, **given: Any) -> set[str]:
    """Names of the constants that a run changes; all else must be what it was."""
    before = net(1)
    after, record = run(spec, **given)
    assert after.graph.node == before.graph.node
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    assert list(constants(after)) == list(constants(before))
    names = {name for name, raw in constants(before).items() if constants(after)[name] != raw}
    assert {edit.node for edit in record.changes} >= names
    return names


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("", {"W", "V", "b", *FOUR, "extra"}),
        (",batch_norm=frozen", {"W", "V", "b", "scale", "shift", "extra"}),
        (",batch_norm=frozen,nodes=[Gemm]", {"V", "b"}),
        (",batch_norm=frozen,exclude=[Conv,Add]", {"V", "b", "scale", "shift"}),
        (",frozen=[aside]", {"V", "b", "extra"}),
    ],
)
def test_what_is_trained_and_what_stays_bit_by_bit(options: str, names: set[str]) -> None:
    assert changed(f"distill{{{SHORT}{options}}}") == names


def test_labels_move_what_they_speak_of() -> None:
    labels = np.arange(48) % 5
    spec = f"finetune{{{SHORT},batch_norm=frozen,hard=cross-entropy}}"
    names = changed(spec, train=data(labels=labels))
    assert names == {"W", "V", "b", "scale", "shift", "extra"}


def test_the_course_is_in_the_record() -> None:
    labels = np.arange(48) % 5
    _, record = run(f"finetune{{{SHORT},hard=cross-entropy}}", train=data(labels=labels))
    assert record.curves is not None
    assert record.curves.metric == "accuracy %"
    assert [step for step, _ in record.curves.held_out_loss] == [0, 10, 20]


def test_calibration_samples_serve_where_no_others_are_given() -> None:
    assert run(f"distill{{{SHORT}}}", train=None, samples=data())[1].status == "done"


@pytest.mark.parametrize(
    ("spec", "given", "error", "words"),
    [
        ("finetune", {}, DataError, "needs labels"),
        ("distill{alpha=1}", {}, DataError, "alpha=1.0 needs labels"),
        ("distill", {"teacher": None}, GraphoptError, "its own teacher"),
        ("distill", {"train": None}, GraphoptError, "needs samples to train on"),
        ("distill{beta=0}", {}, GraphoptError, "leave nothing to train by"),
        ("distill{steps=1,epochs=1}", {}, UsageError, "epochs or steps, not both"),
        ("distill{nodes=[Relu]}", {}, GraphoptError, "no weights that could be trained"),
        ("distill{frozen=[nowhere]}", {}, UsageError, "'nowhere'"),
        ("distill{frozen=[y,aside]}", {}, GraphoptError, "no weights that could be trained"),
        ("distill{flip=true,frozen=[nowhere]}", {}, UsageError, "'nowhere'"),
        ("distill{steps=4,lr=1e30}", {}, GraphoptError, "not finite at step 2 of 4"),
        ("distill{features=[nowhere]}", {}, UsageError, "the student computes no tensor"),
        ("distill{held_out=0.01}", {}, GraphoptError, "too few to hold out 1% of them"),
    ],
)
def test_what_cannot_be_trained_is_said(
    spec: str, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as found:
        run(spec, **given)
    assert words in str(found.value)
    assert "\n" not in str(found.value)
