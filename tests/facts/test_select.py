from __future__ import annotations

import numpy as np
import pytest

from graphopt import optimize
from graphopt.facts.select import nearest, select, unmatched
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.testing import MODELS, model_from_text


def _chosen(graph: Graph, **patterns: tuple[str, ...]) -> list[str]:
    test = select(graph, **patterns)
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


def _convolutions() -> Graph:
    """Unnamed Convs of several kinds; the second MatMul is the last layer, and is called so."""
    rng = np.random.default_rng(0)
    shapes = {
        "dense": (8, 3, 3, 3),
        "deep": (8, 1, 3, 3),
        "point": (8, 8, 1, 1),
        "four": (8, 2, 1, 1),
        "up": (8, 2, 2, 2),
        "A": (8, 8),
        "B": (8, 8),
    }
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,8,8] x) => (float[N,8] y) {
          a = Conv <pads = [1, 1, 1, 1]> (x, dense)
          b = Conv <pads = [1, 1, 1, 1], group = 8> (a, deep)
          c = Relu (b)
          d = Conv (c, point)
          e = Conv <group = 4> (d, four)
          f = ConvTranspose <group = 4, strides = [2, 2]> (e, up)
          g = ReduceMean <axes = [2, 3], keepdims = 0> (f)
          h = MatMul (g, A)
          y = MatMul (h, B)
        }""",
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()},
    )
    model.graph.node[-2].name = "last"
    return io.load(model)


KINDS = {
    ("depthwise",): ["Conv(b)"],
    ("grouped",): ["Conv(b)", "Conv(e)", "ConvTranspose(f)"],
    ("pointwise",): ["Conv(d)", "Conv(e)"],
    ("first",): ["Conv(a)"],
    ("last",): ["MatMul(y)"],
    ("las[t]",): ["last"],
    ("first", "Relu", "MatMul(*"): ["Conv(a)", "Relu(c)", "MatMul(y)"],
}


@pytest.mark.parametrize("patterns", KINDS)
def test_layers_are_chosen_by_kind(patterns: tuple[str, ...]) -> None:
    graph = _convolutions()
    assert _chosen(graph, nodes=patterns) == KINDS[patterns]
    others = [label(node) for node in graph.main.nodes if label(node) not in KINDS[patterns]]
    assert _chosen(graph, exclude=patterns) == others
    assert unmatched(graph, patterns) == []


def test_kinds_are_taken_out_of_types_and_of_other_kinds() -> None:
    graph = _convolutions()
    assert _chosen(graph, nodes=("Conv",), exclude=("grouped", "first")) == ["Conv(d)"]
    assert _chosen(graph, nodes=("grouped",), exclude=("depthwise", "pointwise")) == [
        "ConvTranspose(f)"
    ]


def test_a_kind_without_a_layer_says_what_it_means_and_how_a_name_is_given() -> None:
    graph = io.load(MODELS["mlp"]())
    assert unmatched(graph, ("first", "depthwise")) == ["depthwise"]
    assert nearest(graph, "depthwise") == ": it means each Conv with one input channel a group"
    graph.main.nodes[0].name = "depthwise"
    assert nearest(graph, "depthwise").endswith("; the node of that name is 'depthwis[e]'")
    assert "'first'" in nearest(graph, "frst")


def test_kinds_are_the_same_when_the_model_is_quantized() -> None:
    model = MODELS["cnn"]()
    data = {"x": np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)}
    result = optimize(model, "quantize-static", calibration=data, evaluation=data)
    before, after = io.load(model), io.load(result.model)
    for word in ("first", "last"):
        assert _chosen(after, nodes=(word,)) == _chosen(before, nodes=(word,)) != []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("conv_9", "; nearest: 'conv_"), ("*/gemm*", "nearest: 'gemm_10'"), ("conv", "nearest: ")],
)
def test_a_pattern_without_a_match_has_neighbours(pattern: str, words: str) -> None:
    graph = io.load(MODELS["cnn"]())
    assert unmatched(graph, ("Conv", pattern, "gemm_*")) == [pattern]
    assert words in nearest(graph, pattern)
