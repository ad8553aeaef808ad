from __future__ import annotations

import numpy as np
import pytest

from graphopt.facts.shapes import infer
from graphopt.graph import io
from graphopt.rewrite.alone import alone
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

TEXT = """<ir_version: 8, opset_import: ["" : 13]>
  g (float[%s,3,8,8] x) => (float y) {
    r = Relu (x)  t = Transpose <perm = [1, 0, 2, 3]> (W)  c = Conv (r, t, B)  y = Relu (c)
  }"""


def test_a_layer_and_what_it_reads_of_constants() -> None:
    graph = io.load(model_from_text(TEXT % "2", {"W": (3, 4, 3, 3), "B": (4,)}))
    node = graph.main.nodes[2]
    part = alone(graph, node, infer(graph))
    assert part is not None
    assert [each.op_type for each in part.main.nodes] == ["Transpose", "Conv"]
    assert (part.main.inputs, part.main.outputs) == (["r"], ["c"])
    values = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    whole = Session(graph, threads=1, outputs=["r", "c"]).run({"x": values})
    found = Session(part, threads=1).run({"r": whole["r"]})
    np.testing.assert_allclose(found["c"], whole["c"], atol=1e-6)
    assert len(graph.main.nodes) == 4


@pytest.mark.parametrize("batch", ["N"])
def test_none_of_an_open_size(batch: str) -> None:
    graph = io.load(model_from_text(TEXT % batch, {"W": (3, 4, 3, 3), "B": (4,)}))
    assert alone(graph, graph.main.nodes[2], infer(graph)) is None


def test_what_is_computed_beside_is_fed_too() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
      g (float[2,3] x, float[4] b) => (float y) { c = Neg (b)  y = Gemm (x, W, c) }"""
    graph = io.load(model_from_text(text, {"W": (3, 4)}))
    part = alone(graph, graph.main.nodes[1], infer(graph))
    assert part is not None
    assert part.main.inputs == ["x", "c"]
