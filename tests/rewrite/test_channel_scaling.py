from __future__ import annotations

import numpy as np
import pytest

from graphopt.facts.layers import Layer, layer
from graphopt.graph.graph import Graph
from graphopt.rewrite.channel_scaling import (
    add_to_bias,
    divide_added,
    peaks,
    scale_bias,
    scale_side,
)
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

RNG = np.random.default_rng(2)
PICTURES = RNG.normal(size=(2, 6, 5, 5)).astype(np.float32)
ROWS = RNG.normal(size=(3, 6)).astype(np.float32)
KINDS = {
    "dense": ("Conv (x, w, b)", (8, 6, 3, 3), 8, PICTURES),
    "grouped": ("Conv <group = 2> (x, w, b)", (8, 3, 3, 3), 8, PICTURES),
    "depthwise": ("Conv <group = 6> (x, w, b)", (12, 1, 3, 3), 12, PICTURES),
    "transposed": ("ConvTranspose (x, w, b)", (6, 8, 3, 3), 8, PICTURES),
    "transposed groups": ("ConvTranspose <group = 3> (x, w, b)", (6, 4, 3, 3), 12, PICTURES),
    "gemm": ("Gemm <alpha = 0.5, beta = 2.0> (x, w, b)", (6, 8), 8, ROWS),
    "gemm transposed": ("Gemm <transB = 1> (x, w, b)", (8, 6), 8, ROWS),
    "matmul": ("MatMul (x, w)", (6, 8), 8, ROWS),
}


def made(kind: str) -> tuple[Graph, Layer, np.ndarray]:
    call, shape, out, data = KINDS[kind]
    sizes = ",".join(map(str, data.shape))
    dims = ",".join("abcd"[: data.ndim])
    parts = {"w": RNG.normal(size=shape).astype(np.float32)}
    if " b)" in call:
        parts["b"] = RNG.normal(size=out).astype(np.float32)
    graph = Graph(
        model_from_text(
            f"""<ir_version: 8, opset_import: ["" : 17]>
            g (float[{sizes}] x) => (float[{dims}] y) {{ y = {call} }}""",
            parts,
        )
    )
    found = layer(graph.main, graph.main.nodes[0])
    assert isinstance(found, Layer)
    return graph, found, data


def run(graph: Graph, data: np.ndarray) -> np.ndarray:
    answer: np.ndarray = Session(graph, threads=1).run({"x": data})["y"]
    return answer


def along(factors: np.ndarray, rank: int) -> np.ndarray:
    return factors.reshape(1, -1, *[1] * (rank - 2)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_are_scaled_on_both_sides(kind: str) -> None:
    """One after the other, on the same layer object: the second sees what the first did."""
    graph, one, data = made(kind)
    before = run(graph, data)
    out = np.exp(RNG.normal(size=before.shape[1]))
    inner = np.exp(RNG.normal(size=data.shape[1]))
    scale_side(one, "out", out)
    scale_side(one, "in", inner)
    scale_bias(one, out)
    after = run(graph, data / along(inner, data.ndim))
    np.testing.assert_allclose(after, before * along(out, data.ndim), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_peaks_are_those_between_two_channels(kind: str) -> None:
    """Brute force: one channel goes in with ones, and what comes out of it at most."""
    _, one, data = made(kind)
    found = peaks(one)
    groups, _, inner = found.shape
    assert groups * inner == data.shape[1]
    values = np.abs(one.values())
    total = {"out": found.max(axis=2).ravel(), "in": found.max(axis=1).ravel()}
    if groups == 1:
        others = tuple(a for a in range(values.ndim) if a != one.read_axes[0])
        np.testing.assert_allclose(total["out"], values.max(axis=others))
    np.testing.assert_allclose(total["out"].max(), values.max())
    np.testing.assert_allclose(total["in"].max(), values.max())
    for factor_at in range(groups * inner):  # scaling one input scales its peaks, and no other
        _, again, _ = made(kind)
        again.weight.constant.set(one.weight.constant.values)
        factors = np.ones(groups * inner)
        factors[factor_at] = 100.0
        scale_side(again, "in", factors)
        fresh = layer(again.scope, again.node)
        assert isinstance(fresh, Layer)
        np.testing.assert_allclose(
            peaks(fresh).max(axis=1).ravel(), total["in"] * factors, rtol=1e-6
        )


def test_values_are_added_to_a_bias() -> None:
    graph, one, data = made("gemm")
    before = run(graph, data)
    add_to_bias(one, np.arange(8.0))
    np.testing.assert_allclose(run(graph, data), before + np.arange(8.0), atol=1e-5)


@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1), (1, 4, 5, 5)])
def test_what_an_add_adds_is_divided(shape: tuple[int, ...]) -> None:
    graph = Graph(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[2,4,5,5] x) => (float[2,4,5,5] y) { y = Add (x, c) }""",
            {"c": RNG.normal(size=shape).astype(np.float32)},
        )
    )
    data = PICTURES[:, :4]
    before = run(graph, data)
    factors = np.array([1.0, 2.0, 0.5, 4.0])
    divide_added(graph.main, graph.main.nodes[0], 1, -3, factors)
    after = run(graph, data / along(factors, 4))
    np.testing.assert_allclose(after, before / along(factors, 4), rtol=1e-4, atol=1e-5)
