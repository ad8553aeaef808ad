"""Codes of a weight in every form that a file keeps them in: read, and stored back."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from graphopt.facts.coded import CodedWeight, coded_weight
from graphopt.facts.layers import Layer, Refusal, layers
from graphopt.graph.graph import Graph
from graphopt.passes.quantize import QuantizeDynamic, QuantizeStatic, QuantizeWeights
from graphopt.runtime.session import Session
from graphopt.testing import apply_pass, model_from_text

ROWS = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
ONES = np.ones((4, 4), np.int8)
STEP = np.asarray(0.5, np.float32)
POINT = np.asarray(0, np.uint8)
PRODUCT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 8] x) => (float[N, 6] y) { [m] y = MatMul(x, w) }"""
CONV = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 4, 5, 5] x) => (float[N, 6, 3, 3] y) { [c] y = Conv<group = 2>(x, w) }"""


def view(graph: Graph) -> CodedWeight:
    (one,) = [each for each in layers(graph) if isinstance(each, Layer)]
    found = coded_weight(one)
    assert isinstance(found, CodedWeight)
    return found


def answers(graph: Graph) -> NDArray[np.float32]:
    return np.asarray(Session(graph).run({"x": ROWS})["y"])


def quantized(name: str) -> Graph:
    model = model_from_text(PRODUCT, {"w": (8, 6)})
    item = {
        "static": QuantizeStatic(),
        "four bits": QuantizeStatic(weight_type="int4", edges="same"),
        "one scale": QuantizeStatic(per_channel=False),
        "dynamic": QuantizeDynamic(min_size=0),
        "uint8": QuantizeDynamic(weights="uint8", min_size=0),
        "weights": QuantizeWeights(min_size=0),
    }[name]
    return apply_pass(item, model, samples={"x": ROWS}, strict=True)[0]


@pytest.mark.parametrize(
    ("form", "scales", "least"),
    [
        ("static", (1, 6), -127),
        ("four bits", (1, 6), -8),
        ("one scale", (1, 1), -127),
        ("dynamic", (1, 6), -127),
        ("uint8", (1, 6), 0),
        ("weights", (1, 6), -127),
    ],
)
def test_what_quantizers_write_is_read_and_stored(
    form: str, scales: tuple[int, ...], least: int
) -> None:
    graph = quantized(form)
    coded = view(graph)
    weight = model_from_text(PRODUCT, {"w": (8, 6)}).graph.initializer[0]
    floats = numpy_helper.to_array(weight)
    steps = np.broadcast_to(coded.scale, floats.shape)
    assert (np.abs(coded.values() - floats) <= steps).all()
    assert (coded.scale.shape, coded.qmin) == (scales, least)
    assert coded.block == (8, 1 if scales[1] > 1 else 6)
    assert coded.codes.min() >= coded.qmin
    assert coded.codes.max() <= coded.qmax
    codes = np.where(coded.codes > coded.zero_point, coded.qmax, coded.qmin)
    before = answers(graph)
    coded.store(codes, coded.scale * 2)
    again = view(graph)
    np.testing.assert_array_equal(again.codes, codes)
    np.testing.assert_allclose(again.scale, coded.scale * 2)
    now = answers(graph)
    assert not np.allclose(now, before)
    if form in ("weights", "four bits"):
        np.testing.assert_allclose(now, ROWS @ again.values(), atol=0.1 * np.abs(now).max())


BLOCKS = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 8] x) => (float[N, 6] y) {
    w = DequantizeLinear<axis = 0, block_size = 3>(q, s)
    [m] y = MatMul(x, w)
}"""
TURNED = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 8] x) => (float[N, 6] y) {
    d = DequantizeLinear<axis = 0>(q, s, z)
    w = Transpose<perm = [1, 0]>(d)
    [m] y = MatMul(x, w)
}"""


def filled(text: str, **arrays: NDArray[Any]) -> Graph:
    return Graph(model_from_text(text, arrays))


def test_scales_of_blocks_are_spread_over_their_values() -> None:
    codes = np.arange(48).reshape(8, 6) % 16 - 8
    scale = np.arange(1, 19, dtype=np.float32).reshape(3, 6)
    graph = filled(BLOCKS, q=codes.astype(ml_dtypes.int4), s=scale)
    coded = view(graph)
    assert (coded.block, coded.scale.shape) == ((3, 1), (3, 6))
    np.testing.assert_allclose(coded.values(), codes * np.repeat(scale, 3, axis=0)[:8])
    assert coded.places[:, 0].tolist() == [0, 0, 0, 6, 6, 6, 12, 12]
    coded.store(coded.codes[::-1].copy(), coded.scale[::-1].copy())
    np.testing.assert_allclose(view(graph).scale, scale[::-1])


def test_a_transpose_between_is_undone() -> None:
    codes = np.arange(48, dtype=np.uint8).reshape(6, 8)
    scale = np.arange(1, 7, dtype=np.float32)
    graph = filled(TURNED, q=codes, s=scale, z=np.full(6, 9, np.uint8))
    coded = view(graph)
    np.testing.assert_allclose(coded.values(), ((codes - 9.0) * scale[:, None]).T)
    assert (coded.qmin, coded.qmax, coded.scale.shape) == (0, 255, (1, 6))
    coded.store(coded.codes + 1, coded.scale)
    wanted = ROWS @ view(graph).values()
    np.testing.assert_allclose(answers(graph), wanted, rtol=0.02, atol=2.0)


def test_a_grouped_convolution_has_a_scale_an_output_channel() -> None:
    model = model_from_text(CONV, {"w": (6, 2, 3, 3)})
    rows = np.random.default_rng(0).standard_normal((8, 4, 5, 5)).astype(np.float32)
    coded = view(apply_pass(QuantizeStatic(), model, samples={"x": rows}, strict=True)[0])
    assert (coded.codes.shape, coded.scale.shape) == ((6, 2, 3, 3), (6, 1, 1, 1))


SHARED_SCALE = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N, 4] x) => (float[N, 4] y) {
    v = DequantizeLinear(p, s)
    w = DequantizeLinear(q, s)
    t = MatMul(x, v)
    y = MatMul(t, w)
}"""


def test_a_scale_that_others_read_stays_theirs() -> None:
    graph = filled(SHARED_SCALE, p=ONES, q=ONES, s=STEP)
    first, second = [coded_weight(each) for each in layers(graph) if isinstance(each, Layer)]
    assert isinstance(first, CodedWeight)
    assert isinstance(second, CodedWeight)
    first.store(first.codes, first.scale * 4)
    scales = [coded_weight(each) for each in layers(graph) if isinstance(each, Layer)]
    assert [each.scale.item() for each in scales if isinstance(each, CodedWeight)] == [2.0, 0.5]


REFUSED: dict[str, tuple[str, dict[str, NDArray[Any]], str]] = {
    "two readers": (
        "w = DequantizeLinear(q, s)  t = MatMul(x, w)  y = MatMul(t, w)",
        {"q": ONES, "s": STEP},
        "read by another node too",
    ),
    "floats": (
        "y = MatMul(x, w)",
        {"w": ONES.astype(np.float32)},
        "not stored as codes of 2, 4 or 8",
    ),
    "reshaped": (
        "d = DequantizeLinear(q, s)  w = Reshape(d, to)  y = MatMul(x, w)",
        {"q": ONES.reshape(16), "s": STEP, "to": np.array([4, 4])},
        "a Reshape stands behind",
    ),
    "a scale of zero": (
        "w = DequantizeLinear(q, s)  y = MatMul(x, w)",
        {"q": ONES, "s": 0 * STEP},
        "no floats above zero",
    ),
    "an operator of its own": (
        "c = QuantizeLinear(x, s, z)  i = QLinearMatMul(c, s, z, q, s, n, s, z)"
        "  y = DequantizeLinear(i, s, z)",
        {"q": ONES, "s": STEP, "z": POINT, "n": POINT.astype(np.int8)},
        "nobody knows where a QLinearMatMul has the scales",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_why_codes_cannot_be_changed(case: str) -> None:
    body, weights, words = REFUSED[case]
    header = """<ir_version: 8, opset_import: ["" : 13]> g (float[N, 4] x) => (float[N, 4] y)"""
    graph = Graph(model_from_text(f"{header} {{ {body} }}", weights))
    refusal = coded_weight(next(each for each in layers(graph) if isinstance(each, Layer)))
    assert isinstance(refusal, Refusal)
    assert words in refusal.reason
