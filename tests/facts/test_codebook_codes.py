"""Codes of a codebook, however packed: read, and stored back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graphopt.facts.codebook_codes import codebook_weight
from graphopt.facts.coded import CodedWeight
from graphopt.facts.layers import Layer, Refusal, layers
from graphopt.graph.graph import Graph
from graphopt.passes.quantize import PalettizeWeights
from graphopt.rewrite.half_weights import widen
from graphopt.runtime.session import Session
from graphopt.testing import apply_pass, model_from_text

RNG = np.random.default_rng(1)
BODIES = {
    "product": ("y = MatMul(x, w)", (24, 16), (1, 16)),
    "turned": ("t = Transpose(w) y = MatMul(x, t)", (16, 24), (1, 16)),
    "gemm": ("y = Gemm<transB = 1>(x, w)", (16, 24), (16, 1)),
}


def layer(graph: Graph) -> Layer:
    (one,) = [each for each in layers(graph) if isinstance(each, Layer)]
    return one


def stored(body: str, shape: tuple[int, ...], bits: int, opset: int) -> Graph:
    text = f"""<ir_version: 10, opset_import: ["" : {opset}]>
      g (float[N,24] x) => (float[N,16] y) {{ {body} }}"""
    model = model_from_text(text, {"w": RNG.standard_normal(shape).astype(np.float32)})
    item = PalettizeWeights(bits=bits, eight_bits=(), min_size=0)
    return apply_pass(item, model, strict=True)[0]


@pytest.mark.parametrize("body, shape, scales", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("bits, opset", [(1, 17), (2, 17), (3, 17), (4, 17), (4, 21)])
def test_what_is_packed_is_read_and_stored(
    body: str, shape: tuple[int, ...], scales: tuple[int, ...], bits: int, opset: int
) -> None:
    graph = stored(body, shape, bits, opset)
    one = layer(graph)
    coded = codebook_weight(one)
    assert isinstance(coded, CodedWeight)
    assert coded.centres is not None and len(coded.centres) == coded.qmax + 1 == 2**bits
    np.testing.assert_array_equal(coded.values(), one.weight.values())
    assert coded.scale.shape == scales
    codes = coded.qmax - coded.codes
    coded.store(codes, coded.scale * 2, coded.centres - np.float32(0.5))
    again = codebook_weight(layer(graph))
    assert isinstance(again, CodedWeight)
    np.testing.assert_array_equal(again.codes, codes)
    np.testing.assert_array_equal(again.scale, coded.scale * 2)
    x = RNG.standard_normal((3, 24)).astype(np.float32)
    weight = layer(graph).matrix()
    np.testing.assert_allclose(Session(graph).run({"x": x})["y"], x @ weight, rtol=1e-4, atol=1e-4)


CODES: NDArray[Any] = np.arange(16, dtype=np.uint8).reshape(4, 4) % 4
REFUSED = {
    "two scales": (
        "g = Gather(c, i) h = Mul(g, s) m = Mul(h, s)",
        "the centres of its weight have not one scale behind them",
    ),
    "no scale": ("m = Gather(c, i)", "the centres of its weight have not one scale behind them"),
    "rows of centres": (
        "g = Gather(rows, i) m0 = Mul(g, s) m = Reshape(m0, size)",
        "the centres of its weight have not one scale behind them",
    ),
    "centres of half floats": (
        "h = Cast<to = 1>(half) g = Gather(h, i) m = Mul(g, s)",
        "its centres and scales are no float32 of one value each",
    ),
    "another reader": (
        "g = Gather(c, i) m = Mul(g, s) z = Identity(g)",
        "the codes of its weight are read by another node too",
    ),
    "packed otherwise": (
        "q = Reshape(i, size) g = Gather(c, q) m = Mul(g, s)",
        "nobody knows how the codes of its weight are packed",
    ),
}


@pytest.mark.parametrize("body, reason", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_stored_back_says_why(body: str, reason: str) -> None:
    outputs = "(float[N,4] y, float[4,4] z)" if " z =" in body else "(float[N,4] y)"
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
      g (float[N,4] x) => {outputs} {{ i = Cast<to = 6>(codes) {body} y = MatMul(x, m) }}"""
    constants: dict[str, NDArray[Any]] = {
        "codes": CODES,
        "c": np.arange(4, dtype=np.float32),
        "s": np.ones((1, 4), np.float32),
        "rows": np.ones((4, 1), np.float32),
        "size": np.array([4, 4]),
        "half": np.arange(4, dtype=np.float16),
    }
    used = {name: values for name, values in constants.items() if name in text}
    found = codebook_weight(layer(Graph(model_from_text(text, used))))
    assert isinstance(found, Refusal) and found.reason == reason


@pytest.mark.parametrize("bits, opset", [(3, 17), (4, 17), (4, 21), (8, 17)])
def test_zeros_that_take_a_bit_are_a_centre_of_their_own(bits: int, opset: int) -> None:
    text = f"""<ir_version: 10, opset_import: ["" : {opset}]>
      g (float[N,64] x) => (float[N,32] y) {{ y = MatMul(x, w) }}"""
    weight = RNG.standard_normal((64, 32)).astype(np.float32)
    weight[RNG.uniform(size=weight.shape) < 0.7] = 0
    item = PalettizeWeights(bits=bits, eight_bits=(), min_size=0)
    graph, record = apply_pass(item, model_from_text(text, {"w": weight}), strict=True)
    assert "zeros as bits" in record.changes[0].what
    widen(graph)  # as a pass that is lossy finds it
    coded = codebook_weight(layer(graph))
    assert isinstance(coded, CodedWeight) and coded.centres is not None
    assert coded.qmax == 2**bits
    np.testing.assert_array_equal(coded.values() == 0, weight == 0)
    np.testing.assert_array_equal(coded.values(), layer(graph).weight.values())
    codes, zero = coded.codes.copy(), int(np.flatnonzero(coded.centres == 0)[0])
    codes[:32], codes[32:] = zero, coded.qmax
    coded.store(codes, coded.scale)
    again = layer(graph).weight.values()
    assert not again[:32].any() and again[32:].all()
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    np.testing.assert_allclose(Session(graph).run({"x": x})["y"], x @ again, rtol=1e-4, atol=1e-4)
