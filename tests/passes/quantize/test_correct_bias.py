"""Means of integer layers: those of the float model again, up to the grid of the bias."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.contract.passes import Changes, Context, Pass
from graphopt.data import open_data
from graphopt.errors import PassError
from graphopt.facts.layers import Layer, layers
from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.passes.prune import PruneChannels, ReconstructWeights
from graphopt.passes.quantize import CorrectBias, QuantizeStatic
from graphopt.rewrite.integer_layers import bias_step
from graphopt.runtime.session import Session
from graphopt.testing import Applied, apply_pass, apply_passes, model_from_text

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


def correct(model: onnx.ModelProto, x: Floats, *between: Pass, item: Pass | None = None) -> Applied:
    """The model quantized and corrected; ``between`` are passes that run between these."""
    graph, record = apply_pass(
        item or CorrectBias(),
        model,
        before=[coarse(), *between],
        target="x86-avx2",
        samples={"x": x},
        strict=True,
    )
    assert check.problems(graph) == []
    return graph, record


def quantized(model: onnx.ModelProto, x: Floats) -> Graph:
    graph, _ = apply_pass(coarse(), model, target="x86-avx2", samples={"x": x}, strict=True)
    return graph


@dataclass(frozen=True)
class Gap:
    """How far the means of a layer are from the float model's, and the step of its bias."""

    name: str
    off: NDArray[np.float64]
    step: NDArray[np.float64]


def gaps(model: onnx.ModelProto, graph: Graph, x: Floats) -> Iterator[Gap]:
    """Each layer that can be corrected, with plain means of the whole graphs at no optimization."""
    corrected = [
        (layer, step, layer.bias_place[0])
        for layer in layers(graph.main)
        if isinstance(layer, Layer) and layer.bias_place is not None
        if (step := bias_step(layer)) is not None
    ]
    now = {label(layer.node): str(adder.output[0]) for layer, _, adder in corrected}
    reference = Graph(model)
    names = {label(node): str(node.output[0]) for node in reference.main.nodes}
    tensors = {label(layer.node): names[label(adder)] for layer, _, adder in corrected}
    right = Session(reference, level="off", outputs=list(tensors.values())).run({"x": x})
    found = Session(graph, level="off", outputs=list(now.values())).run({"x": x})
    for layer, step, _ in corrected:
        name = label(layer.node)
        axes = tuple(i for i in range(x.ndim) if i != layer.result_axis % x.ndim)
        means = [
            np.asarray(values, np.float64).mean(axes)
            for values in (right[tensors[name]], found[now[name]])
        ]
        yield Gap(name, np.abs(means[0] - means[1]), step.astype(np.float64))


@pytest.mark.parametrize(
    ("model", "x", "expected"),
    [(convs, IMAGES, ["a", "b", "c"]), (matmuls, ROWS, ["p", "r"])],
    ids=["convolutions", "matrix products"],
)
def test_means_are_those_of_the_float_model_again(
    model: Any, x: Floats, expected: list[str]
) -> None:
    before = list(gaps(model(), quantized(model(), x), x))
    assert [gap.name for gap in before] == expected
    assert all((gap.off > 3 * gap.step).any() for gap in before)
    graph, record = correct(model(), x)
    assert [edit.node for edit in record.changes] == expected
    assert all("bias moved by up to " in edit.what for edit in record.changes)
    for gap in gaps(model(), graph, x):
        # half a step of rounding, and the float32 sums of the session
        assert (gap.off <= 0.51 * gap.step + 1e-6).all(), gap.name


def test_outputs_come_closer() -> None:
    right = Session(Graph(convs())).run({"x": IMAGES})["y"]

    def error(graph: Graph) -> float:
        return float(np.square(Session(graph).run({"x": IMAGES})["y"] - right).mean())

    assert error(correct(convs(), IMAGES)[0]) < 0.9 * error(quantized(convs(), IMAGES))


def test_only_biases_change() -> None:
    graph, _ = correct(convs(), IMAGES)
    before, after = (
        {name: each.read(tensor) for name, tensor in each.main.initializers.items()}
        for each in (quantized(convs(), IMAGES), graph)
    )
    changed = [n for n in before if not np.array_equal(before[n], after[n])]
    assert changed == ["b_quantized", "e_quantized"]
    new = {name: values.dtype for name, values in after.items() if name not in before}
    assert new == {"d_bias_quantized": np.int32, "d_bias_scale": np.float32}
    conv = next(node for node in graph.main.nodes if node.name == "b")
    assert conv.input[2] == "d_bias_dequantized"


def test_a_second_run_changes_nothing() -> None:
    for model, x in ((convs(), IMAGES), (matmuls(), ROWS)):
        once, _ = correct(model, x)
        twice, record = correct(model, x, CorrectBias())
        assert record.status == "nothing to do"
        assert {s.reason for s in record.skipped} <= {
            "its mean is right already", "no node behind it adds a bias",
        }  # fmt: skip
        assert twice.to_model() == once.to_model()


def test_a_product_without_a_bias_is_left_with_a_reason() -> None:
    _, record = correct(matmuls(), ROWS)
    assert [(s.node, s.reason) for s in record.skipped] == [("q", "no node behind it adds a bias")]


@dataclass(frozen=True)
class Rename(Pass):
    """Gives a node another name."""

    name = "rename"

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for node in graph.main.nodes:
            if node.name == "a":
                node.name = "other"
                changes.edit(node, "renamed")
        return changes


def test_a_layer_that_the_float_model_does_not_know_by_name() -> None:
    _, record = correct(convs(), IMAGES, Rename())
    assert [(s.node, s.reason) for s in record.skipped] == [
        ("other", "the float model has no node of that name")
    ]
    assert [edit.node for edit in record.changes] == ["b", "c"]


def test_means_are_those_that_other_lossy_passes_left() -> None:
    fewer = PruneChannels(share=0.25, criterion="l2", allocation="uniform", round_to=1)
    before = [fewer, ReconstructWeights()]
    [pruned, rounded] = (
        apply_passes(passes, convs(), target="x86-avx2", samples={"x": IMAGES}, strict=True)
        for passes in (before, [*before, coarse(), CorrectBias()])
    )
    assert "b" in {edit.node for edit in rounded[1][-1].changes}
    means = [
        np.asarray(Session(graph, level="off", outputs=["d"]).run({"x": IMAGES})["d"])
        for graph, _ in (pruned, rounded)
    ]
    assert means[0].shape == means[1].shape == (24, 6, *means[0].shape[2:])
    assert np.abs(means[0].mean((0, 2, 3)) - means[1].mean((0, 2, 3))).max() < 0.02


def test_unnamed_layers_are_found_even_if_they_make_the_output() -> None:
    model = convs()
    for node in model.graph.node:
        node.name = ""
    _, record = correct(model, IMAGES)
    assert [edit.node for edit in record.changes] == ["Conv(c)", "Conv(d)", "Conv(y)"]


def test_option_samples() -> None:
    few, _ = correct(convs(), IMAGES, item=CorrectBias(samples=2))
    seen, whole = (list(gaps(convs(), few, x)) for x in (IMAGES[:2], IMAGES))
    for here, there in zip(seen, whole, strict=True):
        assert (here.off <= 0.51 * here.step + 1e-6).all(), here.name
        assert there.off.max() > 20 * there.step.max()


def test_a_fixed_batch_that_is_filled_up() -> None:
    text = CONVS.replace("[N,", "[16,")
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in convs().graph.initializer}
    model = model_from_text(text, weights)
    assert [real for _, real in open_data({"x": IMAGES}, Graph(model)).feeds()] == [16, 8]
    fixed, free = (correct(each, IMAGES)[0] for each in (model, convs()))
    for name in ("b_quantized", "e_quantized"):
        one, two = (graph.read(graph.main.initializers[name]) for graph in (fixed, free))
        assert np.abs(one.astype(float) - two).max() <= 1


def test_it_goes_behind_quantize_static() -> None:
    with pytest.raises(PassError, match="put quantize-static before it"):
        apply_pass(CorrectBias(), convs(), samples={"x": IMAGES}, strict=True)
