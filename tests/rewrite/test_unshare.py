"""Vectors that equal by chance are no reason for channels to go together."""

from __future__ import annotations

import numpy as np

from graphopt.analysis.channels import channel_groups
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.rewrite.unshare import unshare_vectors
from graphopt.testing import model_from_text, run_model

TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[b, 6] x) => (float[b, 5] y)
{
    h = Gemm(x, v, zeros)
    same = Identity(zeros)
    r = Gemm(h, u, same)
    f = Reshape(r, sizes)
    g = Reshape(f, sizes)
    y = Gemm(g, w)
}"""


def shared() -> Graph:
    weights = {"v": (6, 4), "u": (4, 4), "w": (4, 5)}
    constants = {"zeros": np.zeros(4, np.float32), "sizes": np.array([-1, 4])}
    return Graph(model_from_text(TEXT, {**weights, **constants}))


def test_each_reader_gets_a_copy_and_nothing_else_changes() -> None:
    graph = shared()
    before = run_model(graph)
    assert [group.size for group in channel_groups(graph, infer(graph)).groups] == [4]
    assert [label(node) for node in unshare_vectors(graph)] == ["Gemm(r)"]
    assert [group.size for group in channel_groups(graph, infer(graph)).groups] == [4, 4]
    assert [node.input[1] for node in graph.main.nodes if node.op_type == "Reshape"] == [
        "sizes"
    ] * 2
    for name, values in run_model(graph).items():
        np.testing.assert_array_equal(values, before[name])


def test_what_nobody_shares_stays_as_it_is() -> None:
    graph = shared()
    unshare_vectors(graph)
    before = graph.to_model()
    assert unshare_vectors(graph) == []
    assert graph.to_model() == before
