"""What counts as quantized, and what shares a scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from graphopt.bridge.quantized import find
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text

Make = Callable[..., Any]
W4A4 = "quantize-static{weight_type=int4, activation_type=uint4}"


def graph_of(body: str, ports: str = "(float[2,4] x) => (float[2,4] y)", **weights: Any) -> Graph:
    text = f'<ir_version: 10, opset_import: ["" : 21]> g {ports} {{ {body} }}'
    return io.load(model_from_text(text, weights))


def test_weights_activations_and_biases_of_a_quantized_net(quantized: Make) -> None:
    found = find(quantized().graph)
    names = [point.output for point in found.weights]
    assert names == [f"{name}_dequantized" for name in ("W1", "W2", "W3", "V")]
    assert [point.codes.axis for point in found.weights] == [0, 0, 0, 1]
    assert {(point.codes.qmin, point.codes.qmax) for point in found.weights} == {(-127, 127)}
    assert [point.output for point in found.biases] == [
        f"{name}_dequantized" for name in ("B1", "B2", "B3", "b")
    ]
    layers = {point.layer for point in found.biases}
    assert ("x_dequantized", "W1_dequantized") in layers
    assert None not in layers
    assert not found.left


def test_what_only_moves_values_ties_scales(quantized: Make) -> None:
    found = find(quantized().graph)
    ties = {point.source: point.tie for point in found.activations}
    assert ties["q"] == ties["m"]
    assert ties["g"] == ties["f"]
    assert len(set(ties.values())) == len(ties) - 2


def test_the_scale_behind_a_clip_has_a_ceiling(quantized: Make) -> None:
    ceilings = {point.source: point.ceiling for point in find(quantized().graph).activations}
    assert ceilings.pop("k") == pytest.approx(2 / 255)
    assert set(ceilings.values()) == {None}


def test_four_bits_use_seven_codes_either_side(quantized: Make) -> None:
    limits = [(p.codes.qmin, p.codes.qmax) for p in find(quantized(W4A4).graph).weights]
    assert limits == [(-127, 127), (-7, 7), (-7, 7), (-127, 127)]


@pytest.mark.parametrize("least", [-8, -7])
def test_the_smallest_code_counts_where_it_is_used(least: int) -> None:
    codes = np.array([[least, 7], [0, 1]]).astype(ml_dtypes.int4)
    body = "w = DequantizeLinear (c, s) y = MatMul (x, w)"
    graph = graph_of(body, "(float[2,2] x) => (float[2,2] y)", c=codes, s=np.array(0.5, np.float32))
    (point,) = find(graph).weights
    assert point.codes.qmin == least


def test_codes_behind_cast_and_mul_are_weights_and_tables_of_rows_are_not() -> None:
    body = """
        c = Cast <to = 1> (W) w = Mul (c, S) h = MatMul (x, w)
        r = Gather (T, i) t = Cast <to = 1> (r) p = Gather (R, i) e = Mul (t, p)
        y = Add (h, e)
    """
    codes = np.arange(16, dtype=np.int8).reshape(4, 4)
    graph = graph_of(
        body,
        W=codes,
        S=np.full((1, 4), 0.1, np.float32),
        T=codes,
        R=np.full((4, 1), 0.1, np.float32),
        i=np.array([0, 1]),
    )
    found = find(graph)
    assert [point.output for point in found.weights] == ["w"]
    assert found.row_scales == {"R"}


LEFT = {
    "computed scale": (
        "a = ReduceMax <keepdims = 0> (x) q = QuantizeLinear (x, a, z) "
        "y = DequantizeLinear (q, a, z)",
        "is not a float32 and integer constant",
    ),
    "other parameters": (
        "q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, t, z)",
        "dequantizes with other parameters",
    ),
    "integers read": (
        "q = QuantizeLinear (x, s, z) r = Reshape (q, to) y = DequantizeLinear (r, s, z)",
        "its integers are read by",
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_not_trained_through_is_said(case: str) -> None:
    body, words = LEFT[case]
    constants: dict[str, Any] = {
        "s": np.array(0.1, np.float32),
        "t": np.array(0.2, np.float32),
        "z": np.array(3, np.uint8),
        "to": np.array([2, 4]),
    }
    used = {name: value for name, value in constants.items() if f" {name}" in body}
    ((_, reason),) = find(graph_of(body, **used)).left
    assert words in reason
