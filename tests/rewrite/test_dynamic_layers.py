"""Weights of layers on dynamic integers; what becomes of whole layers is tested with the pass."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.facts.layers import Layer, layers
from graphopt.graph.graph import Graph
from graphopt.rewrite.dynamic_layers import DynamicGrid, DynamicWeights
from graphopt.testing import model_from_text

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 8] x) => (float[n, 8] y) { h = MatMul(x, w) y = Gemm <transB = 1> (h, w) }"""


@pytest.mark.parametrize("codes", ["int8", "uint8"])
def test_a_weight_is_stored_once_for_each_way_to_read_it(codes: str) -> None:
    graph = Graph(model_from_text(TEXT, {"w": (8, 8)}))
    grid = DynamicGrid(True, "int8" if codes == "int8" else "uint8", "max", False)
    weights = DynamicWeights(grid)
    found = [each for each in layers(graph) if isinstance(each, Layer)]
    stored = [weights.get(each) for each in (*found, *found)]
    assert stored[:2] == stored[2:]
    assert stored[0] != stored[1]
    for each in stored:
        held = graph.main.constant(each.codes)
        assert held is not None
        assert held.values.dtype == np.dtype(codes)
        assert (each.zero_point is None) is (codes == "int8")
