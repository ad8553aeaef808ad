"""Means of integer layers: those of the float model again, up to the grid of the bias."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt import targets
from graphopt.data import open_data
from graphopt.errors import PassError
from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.passes.quantize import CorrectBias, QuantizeStatic
from graphopt.rewrite.integer_layers import integer_layers
from graphopt.run import drive as runner
from graphopt.run.job import Job
from graphopt.run.record import PassRecord
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

Floats = NDArray[np.float32]

IMAGES = np.random.default_rng(0).normal(0.3, 1, (24, 3, 6, 6)).astype(np.float32)
ROWS = np.random.default_rng(1).normal(0.3, 1, (24, 5, 16)).astype(np.float32)
CONVS = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N, 3, 6, 6] x) => (float[N, 4, 2, 2] y) {
    [a] c = Conv(x, w, b)
    r = Relu(c)
    [b] d = Conv<group = 8, pads = [1, 1, 1, 1]>(r, dw)
    s = Add(r, d)
    [c] y = Conv(s, u, e)
}"""
MATMULS = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N, 5, 16] x) => (float[N, 5, 4] y) {
    [p] m = MatMul(x, w)
    [pa] a = Add(m, b)
    [q] n = MatMul(a, v)
    t = Tanh(n)
    [r] o = MatMul(t, u)
    [ra] y = Add(e, o)
}"""


def convs() -> onnx.ModelProto:
    shapes: dict[str, Any] = {"w": (8, 3, 3, 3), "b": (8,), "dw": (8, 1, 3, 3), "u": (4, 8, 3, 3)}
    return model_from_text(CONVS, shapes | {"e": (4,)})


def matmuls() -> onnx.ModelProto:
    return model_from_text(MATMULS, {"w": (16, 8), "b": (8,), "v": (8, 8), "u": (8, 4), "e": (4,)})


def coarse() -> QuantizeStatic:
    """Quantization that hurts: half of the range is cut off."""
    return QuantizeStatic(per_channel=False, ranges="percentile", percentile=90)


def quantized(model: onnx.ModelProto, x: Floats, item: QuantizeStatic | None = None) -> Job:
    """A job whose graph is quantized."""
    graph = Graph(model)
    job = Job(
        graph=graph,
        reference=graph.copy(),
        target=targets.find("x86-avx2"),
        samples=open_data({"x": x}, graph),
        strict=True,
        threads=1,
    )
    assert runner.apply(job, item or coarse()).status == "done"
    return job


def correct(job: Job, item: CorrectBias | None = None) -> PassRecord:
    record = runner.apply(job, item or CorrectBias())
    assert check.problems(job.graph) == []
    return record


@dataclass(frozen=True)
class Gap:
    """How far the means of a layer are from the float model's, and the step of its bias."""

    name: str
    off: NDArray[np.float64]
    step: NDArray[np.float64]


def gaps(job: Job, x: Floats) -> Iterator[Gap]:
    """Each layer that can be corrected, with plain means of the whole graphs at no optimization."""
    layers = [layer for layer in integer_layers(job.graph.main) if layer.adder is not None]
    now = {label(layer.node): str(layer.adder.output[0]) for layer in layers if layer.adder}
    names = {label(node): str(node.output[0]) for node in job.reference.main.nodes}
    tensors = {key: names[label(layer.adder)] for key, layer in zip(now, layers, strict=True)
               if layer.adder}  # fmt: skip
    right = Session(job.reference, level="off", outputs=list(tensors.values())).run({"x": x})
    found = Session(job.graph, level="off", outputs=list(now.values())).run({"x": x})
    for layer in layers:
        name = label(layer.node)
        axes = tuple(i for i in range(x.ndim) if i != layer.out_axis % x.ndim)
        means = [
            np.asarray(values, np.float64).mean(axes)
            for values in (right[tensors[name]], found[now[name]])
        ]
        step = np.asarray(layer.weight_scale, np.float64) * layer.input_scale
        yield Gap(name, np.abs(means[0] - means[1]), step)


@pytest.mark.parametrize(
    ("model", "x", "expected"),
    [(convs, IMAGES, ["a", "b", "c"]), (matmuls, ROWS, ["p", "r"])],
    ids=["convolutions", "matrix products"],
)
def test_means_are_those_of_the_float_model_again(
    model: Any, x: Floats, expected: list[str]
) -> None:
    job = quantized(model(), x)
    before = list(gaps(job, x))
    assert [gap.name for gap in before] == expected
    assert all((gap.off > 3 * gap.step).any() for gap in before)
    record = correct(job)
    assert [edit.node for edit in record.changes] == expected
    assert all("bias moved by up to " in edit.what for edit in record.changes)
    for gap in gaps(job, x):
        # half a step of rounding, and the float32 sums of the session
        assert (gap.off <= 0.51 * gap.step + 1e-6).all(), gap.name


def test_outputs_come_closer() -> None:
    job = quantized(convs(), IMAGES)
    right = Session(job.reference).run({"x": IMAGES})["y"]

    def error() -> float:
        return float(np.square(Session(job.graph).run({"x": IMAGES})["y"] - right).mean())

    before = error()
    correct(job)
    assert error() < 0.9 * before


def test_only_biases_change() -> None:
    job = quantized(convs(), IMAGES)
    before = {name: job.graph.read(t) for name, t in job.graph.main.initializers.items()}
    correct(job)
    after = {name: job.graph.read(t) for name, t in job.graph.main.initializers.items()}
    changed = [n for n in before if not np.array_equal(before[n], after[n])]
    assert changed == ["b_quantized", "e_quantized"]
    new = {name: values.dtype for name, values in after.items() if name not in before}
    assert new == {"d_bias_quantized": np.int32, "d_bias_scale": np.float32}
    conv = next(node for node in job.graph.main.nodes if node.name == "b")
    assert conv.input[2] == "d_bias_dequantized"


def test_a_second_run_changes_nothing() -> None:
    for model, x in ((convs(), IMAGES), (matmuls(), ROWS)):
        job = quantized(model, x)
        correct(job)
        before = job.graph.to_model().SerializeToString(deterministic=True)
        record = correct(job)
        assert record.status == "nothing to do"
        assert {s.reason for s in record.skipped} <= {
            "its mean is right already", "no node behind it adds a bias",
        }  # fmt: skip
        assert job.graph.to_model().SerializeToString(deterministic=True) == before


def test_a_product_without_a_bias_is_left_with_a_reason() -> None:
    record = correct(quantized(matmuls(), ROWS))
    assert [(s.node, s.reason) for s in record.skipped] == [("q", "no node behind it adds a bias")]


def test_a_layer_that_the_float_model_does_not_know_by_name() -> None:
    job = quantized(convs(), IMAGES)
    assert job.float_graph is not None
    for node in job.float_graph.main.nodes:
        if node.name == "a":
            node.name = "other"
    record = correct(job)
    assert [(s.node, s.reason) for s in record.skipped] == [
        ("a", "the float model has no node of that name")
    ]
    assert [edit.node for edit in record.changes] == ["b", "c"]


def test_unnamed_layers_are_found_even_if_they_make_the_output() -> None:
    model = convs()
    for node in model.graph.node:
        node.name = ""
    record = correct(quantized(model, IMAGES))
    assert [edit.node for edit in record.changes] == ["Conv(c)", "Conv(d)", "Conv(y)"]


def test_option_samples() -> None:
    few = quantized(convs(), IMAGES)
    correct(few, CorrectBias(samples=2))
    seen, whole = (list(gaps(few, x)) for x in (IMAGES[:2], IMAGES))
    for here, there in zip(seen, whole, strict=True):
        assert (here.off <= 0.51 * here.step + 1e-6).all(), here.name
        assert there.off.max() > 20 * there.step.max()


def test_a_fixed_batch_that_is_filled_up() -> None:
    text = CONVS.replace("[N,", "[16,")
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in convs().graph.initializer}
    fixed, free = quantized(model_from_text(text, weights), IMAGES), quantized(convs(), IMAGES)
    assert fixed.samples is not None
    assert [real for _, real in fixed.samples.feeds()] == [16, 8]
    for job in (fixed, free):
        correct(job)
    for name in ("b_quantized", "e_quantized"):
        one, two = (job.graph.read(job.graph.main.initializers[name]) for job in (fixed, free))
        assert np.abs(one.astype(float) - two).max() <= 1


def test_it_goes_behind_quantize_static() -> None:
    graph = Graph(convs())
    samples = open_data({"x": IMAGES}, graph)
    job = Job(graph, graph.copy(), targets.find("x86-avx2"), samples, strict=True)
    with pytest.raises(PassError, match="put quantize-static before it"):
        runner.apply(job, CorrectBias())
