"""Which layers count as first and last."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.facts.edge_layers import edge_layers
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text

BODIES = {
    "a chain": ("a = MatMul(x, w) b = Relu(a) c = MatMul(b, w) y = MatMul(c, w)", {"a", "y"}),
    "one layer": ("a = Relu(x) y = MatMul(a, w)", {"y"}),
    "branches": (
        "a = MatMul(x, w) b = MatMul(x, w) c = Add(a, b) d = MatMul(c, w) y = MatMul(d, w)",
        {"a", "b", "y"},
    ),
    "two heads": (
        "a = MatMul(x, w) b = MatMul(a, w) c = MatMul(b, w) d = MatMul(b, w) y = Add(c, d)",
        {"a", "c", "d"},
    ),
    "a shortcut": ("a = MatMul(x, w) b = MatMul(a, w) y = Add(b, x)", {"a", "b"}),
}


@pytest.mark.parametrize("body", BODIES)
def test_edge_layers(body: str) -> None:
    nodes, expected = BODIES[body]
    text = (
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[2, 4] x) => (float[2, 4] y) {{{nodes}}}'
    )
    graph = Graph(model_from_text(text, {"w": np.eye(4, dtype=np.float32)}))
    assert {node.output[0] for node in edge_layers(graph.main)} == expected
