"""The weights that chosen nodes use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.bridge.chosen import weights_of
from graphopt.facts.select import select
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def graph_of(nodes: str, inputs: str = "", **weights: Any) -> Graph:
    text = f"{HEAD} net (float[N,3] x{inputs}) => (float[N,4] y) {{ {nodes} }}"
    return io.load(model_from_text(text, weights))


def chosen(graph: Graph, *nodes: str, exclude: tuple[str, ...] = ()) -> list[str]:
    return sorted(weights_of(graph, select(graph, nodes, exclude)))


LAYERS = graph_of("h = Gemm (x, W, b) r = Relu (h) y = MatMul (r, V)", W=(3, 5), b=(5,), V=(5, 4))


def test_without_a_choice_all_weights_are_trained() -> None:
    assert chosen(LAYERS) == ["V", "W", "b"]


def test_nodes_are_chosen_and_excluded_by_type() -> None:
    assert chosen(LAYERS, "Gemm") == ["W", "b"]
    assert chosen(LAYERS, exclude=("Gemm",)) == ["V"]
    assert chosen(LAYERS, "Relu") == []


SCALES = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        ("t = Transpose (W) y = MatMul (x, t)", {"W": (4, 3)}),
        ("t = Reshape (W, k) y = MatMul (x, t)", {"W": (4, 3), "k": np.array([3, 4])}),
        (
            "q = QuantizeLinear (W, s, z) t = DequantizeLinear (q, s, z) y = MatMul (x, t)",
            {"W": (3, 4), **SCALES},
        ),
    ],
)
def test_what_is_done_to_a_weight_first_does_not_hide_it(nodes: str, weights: Any) -> None:
    graph = graph_of(nodes, **weights)
    assert chosen(graph) == chosen(graph, "MatMul") == ["W"]
    assert chosen(graph, exclude=("MatMul",)) == []


def test_a_shared_weight_is_trained_if_one_of_its_readers_is() -> None:
    graph = graph_of("h = MatMul (x, W) g = Gemm (x, W) y = Add (h, g)", W=(3, 4))
    assert chosen(graph, "Gemm") == ["W"]
    assert chosen(graph, exclude=("Gemm",)) == ["W"]


def test_weights_listed_as_inputs_or_held_by_nodes_count() -> None:
    graph = graph_of(
        "C = Constant <value = float[4] {1, 2, 3, 4}> () h = MatMul (x, W) y = Add (h, C)",
        ", float[3,4] W",
        W=(3, 4),
    )
    assert chosen(graph) == ["C", "W"]
    assert chosen(graph, "Add") == ["C"]
