"""Layers that take up what an affine node beside them does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.facts.layers import Refusal
from graphopt.graph.graph import Graph
from graphopt.rewrite.absorb import absorber, added_by, fixed, store
from graphopt.testing import model_from_text

ROWS = "(float[2, 3] x) => (float[2, 2] y)"
W = np.arange(6, dtype=np.float32).reshape(3, 2)


def graph_of(body: str, ports: str = ROWS, **weights: Any) -> Graph:
    head = '<ir_version: 8, opset_import: ["" : 13]>'
    return Graph(model_from_text(f"{head} g {ports} {{ {body} }}", weights))


def test_a_gemm_keeps_its_result_with_its_factors_multiplied_in() -> None:
    b = np.array([1, 2], np.float32)
    graph = graph_of("y = Gemm<alpha = 2.0, beta = 3.0>(x, w, b)", w=W, b=b)
    found = absorber(graph.main, graph.main.nodes[0])
    assert not isinstance(found, Refusal)
    layer, values, bias = found
    np.testing.assert_array_equal(values, 2 * W)
    np.testing.assert_array_equal(bias, 3 * b)
    assert store(layer, values, bias) == ""
    assert list(graph.main.nodes[0].attribute) == []
    np.testing.assert_array_equal(graph.read(graph.main.initializers["w"]), 2 * W)
    np.testing.assert_array_equal(graph.read(graph.main.initializers["b"]), 3 * b)


def test_what_the_type_cannot_hold_is_refused_with_nothing_edited() -> None:
    graph = graph_of("y = Gemm(x, w)", w=W)
    before = graph.to_model()
    found = absorber(graph.main, graph.main.nodes[0])
    assert not isinstance(found, Refusal)
    refused = store(found[0], found[1] * 1e300, found[2])
    assert isinstance(refused, Refusal) and "do not fit into float32" in refused.reason
    assert graph.to_model() == before


@pytest.mark.parametrize(
    ("body", "weights", "reason"),
    [
        ("y = MatMul(u, x)", {"u": (2, 2)}, "left operand"),
        ("y = MatMul(x, c)", {"c": (2, 3, 2)}, "rank 3"),
        ("y = MatMul(x, x)", {}, "both operands are computed"),
        ("y = Gemm(x, w, m)", {"w": W, "m": (2, 2)}, "[2, 2], not a value a channel"),
        ("y = Gemm(x, w, n)", {"w": W}, "its bias is computed at run time"),
        ("y = Relu(x)", {}, "Relu has no weight"),
    ],
)
def test_who_takes_up_nothing(body: str, weights: dict[str, Any], reason: str) -> None:
    graph = graph_of(body, "(float[2, 3] x, float[2] n) => (float y)", **weights)
    refused = absorber(graph.main, graph.main.nodes[0])
    assert isinstance(refused, Refusal) and reason in refused.reason


def test_constants_beside_a_layer() -> None:
    body = "h = MatMul(x, w) y = Add(h, b)"
    for b, values in (([1, 2], [1, 2]), ([[5]], [5])):
        graph = graph_of(body, w=W, b=np.array(b, np.float32))
        found = absorber(graph.main, graph.main.nodes[0])
        assert not isinstance(found, Refusal)
        added = added_by(found[0], graph.main.nodes[1])
        assert not isinstance(added, Refusal)
        assert added.tolist() == values
    graph = graph_of(body, w=W, b=(2, 2))
    found = absorber(graph.main, graph.main.nodes[0])
    assert not isinstance(found, Refusal)
    refused = added_by(found[0], graph.main.nodes[1])
    assert isinstance(refused, Refusal) and "[2, 2]" in refused.reason
    assert refused.node is graph.main.nodes[1]
    computed = fixed(graph.main, graph.main.nodes[0], "x")
    assert isinstance(computed, Refusal) and "computed at run time" in computed.reason
