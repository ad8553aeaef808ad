"""Scales and zero points that are cast and repeated on their way to a node."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from graphopt.facts.layers import Layer, layers
from graphopt.facts.spread import SpreadConstant, spread_constant
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text

HEAD = '<ir_version: 10, opset_import: ["" : 21]> g (float[n, 5] x) => (float[n, 3] y)'
SCALES = np.arange(1, 7, dtype=np.float16).reshape(2, 1, 3) / np.float16(8)
CONSTANTS: dict[str, NDArray[np.generic]] = {
    "s": SCALES,
    "t": SCALES.astype(np.float32),
    "q": np.arange(-7, 8, dtype=np.int8).reshape(5, 3),
    "grown": np.array([2, 3, 3]),
    "merged": np.array([6, 3]),
    "whole": np.array([18, 1]),
    "zero": np.array([0]),
    "five": np.array([5]),
    "z": np.array([[[1], [2], [3]], [[4], [5], [6]]], np.uint8).reshape(2, 1, 3),
    "rows": np.array([[1.0], [2], [3], [4], [5]], np.float32),
}
REPEATED = "r = Expand(f, grown) m = Reshape(r, merged) k = Slice(m, zero, five, zero)"


def scale_of(body: str, index: int = 1) -> SpreadConstant | None:
    used = {name: value for name, value in CONSTANTS.items() if name in body.replace("(", " ( ")}
    graph = Graph(model_from_text(f"{HEAD} {{ {body} y = MatMul(x, w) }}", used))
    (node,) = (node for node in graph.main.nodes if node.op_type == "Mul")
    return spread_constant(graph.main, node, index)


def test_a_scale_is_cast_repeated_and_cut() -> None:
    body = f"c = Cast<to = 1>(q) f = Cast<to = 1>(s) {REPEATED} w = Mul(c, k)"
    found = scale_of(body)
    assert found is not None and (found.axis, found.block) == (0, 3)
    assert found.place.node.op_type == "Cast" and found.stored_shape() == (2, 3)
    expected = np.repeat(SCALES[:, 0].astype(np.float32), 3, axis=0)[:5]
    np.testing.assert_array_equal(found.values(), expected)


def test_one_that_is_read_as_it_is_or_cast_alone() -> None:
    found = scale_of("c = Cast<to = 1>(q) w = Mul(c, rows)")
    assert found is not None and found.axis is None and found.place.index == 1
    assert found.stored_shape() == (5, 1)


@pytest.mark.parametrize(
    "body",
    [
        "c = Cast<to = 1>(q) r = Expand(t, grown) m = Reshape(r, whole) w = Mul(c, m)",
        "c = Cast<to = 1>(q) o = Sin(rows) w = Mul(c, o)",
        "c = Cast<to = 1>(q) k = Slice(rows, zero, five, zero) w = Mul(c, k)",
    ],
)
def test_anything_else_is_none(body: str) -> None:
    assert scale_of(body) is None


def test_a_layer_reads_codes_less_zero_points_times_scales() -> None:
    body = f"""c = Cast<to = 1>(q) p = Cast<to = 1>(z) a = Expand(p, grown) b = Reshape(a, merged)
      d = Slice(b, zero, five, zero) e = Sub(c, d) f = Cast<to = 1>(s) {REPEATED} w = Mul(e, k)
      y = MatMul(x, w)"""
    graph = Graph(model_from_text(f"{HEAD} {{ {body} }}", CONSTANTS))
    (one,) = (each for each in layers(graph) if isinstance(each, Layer))
    zeros, scales = (
        np.repeat(CONSTANTS[name][:, 0].astype(np.float32), 3, axis=0)[:5] for name in "zs"
    )
    expected = (CONSTANTS["q"].astype(np.float32) - zeros) * scales
    np.testing.assert_array_equal(one.weight.values(), expected)
    assert (one.weight.form, one.out_channels, one.in_channels) == ("expanded", 3, 5)
