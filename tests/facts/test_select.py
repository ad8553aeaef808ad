from __future__ import annotations

import pytest

from graphopt.facts.select import nearest, select, unmatched
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.testing import MODELS, model_from_text


def _chosen(graph: Graph, **patterns: tuple[str, ...]) -> list[str]:
    test = select(**patterns)
    return [label(node) for scope in graph.scopes() for node in scope.nodes if test(node)]


def test_names_types_and_exclusions() -> None:
    graph = io.load(MODELS["cnn"]())
    assert len(_chosen(graph)) == len(graph.main.nodes)
    assert _chosen(graph, nodes=("Conv",)) == ["conv_0", "conv_3", "conv_6"]
    assert _chosen(graph, nodes=("conv_*",), exclude=("conv_3",)) == ["conv_0", "conv_6"]
    assert _chosen(graph, nodes=("conv_[06]", "Gemm")) == ["conv_0", "conv_6", "gemm_10"]


def test_bodies_and_nodes_without_a_name_are_found() -> None:
    graph = io.load(MODELS["bodies"]())
    assert _chosen(graph, nodes=("Tanh",)) == ["Tanh(next)"]


def test_a_name_with_brackets_is_found_by_its_text() -> None:
    model = model_from_text(
        '<ir_version: 8, opset_import: ["" : 13]> g (float[2] x) => (float[2] y) { y = Relu (x) }'
    )
    model.graph.node[0].name = "layer[0]/Relu"
    assert _chosen(io.load(model), nodes=("layer[0]/Relu",)) == ["layer[0]/Relu"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("conv_9", "; nearest: 'conv_"), ("*/gemm*", "nearest: 'gemm_10'"), ("conv", "nearest: ")],
)
def test_a_pattern_without_a_match_has_neighbours(pattern: str, words: str) -> None:
    graph = io.load(MODELS["cnn"]())
    assert unmatched(graph, ("Conv", pattern, "gemm_*")) == [pattern]
    assert words in nearest(graph, pattern)
