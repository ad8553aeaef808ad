"""Whether samples may go through a model together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphopt.bridge import to_torch
from graphopt.bridge.training.joining import joinable
from graphopt.data.staged import StagedSamples
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
Stage = Callable[..., StagedSamples]


def graph_of(inputs: str, nodes: str) -> Graph:
    text = f"{HEAD} net ({inputs}) => (float[M,4] y) {{ {nodes} }}"
    return io.load(model_from_text(text, {"W": (3, 4)} if "W" in nodes else {}))


def vectors(count: int = 5, width: int = 3) -> Any:
    return np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)


@pytest.mark.parametrize("batch", ["N", "1"])
def test_a_batch_of_one_in_the_file_does_not_matter_where_nodes_do_not_care(
    batch: str, stage: Stage
) -> None:
    graph = graph_of(f"float[{batch},3] x", "y = MatMul (x, W)")
    assert joinable(to_torch(graph), graph, stage(graph, {"x": vectors()})) == frozenset("x")


@pytest.mark.parametrize(
    "nodes",
    [
        "s = Constant <value_ints = [1, 3]> () h = Reshape (x, s) y = MatMul (h, W)",
        # keeps the shape but mixes the samples
        "m = ReduceMean <axes = [0]> (x) h = Sub (x, m) y = MatMul (h, W)",
    ],
)
def test_nodes_that_care_are_found_out(nodes: str, stage: Stage) -> None:
    graph = graph_of("float[N,3] x", nodes)
    assert joinable(to_torch(graph), graph, stage(graph, {"x": vectors()})) is None


def test_small_answers_that_mix_samples_are_found_out(stage: Stage) -> None:
    nodes = "t = Constant <value_float = 0.00001> () m = ReduceMean <axes = [0]> (x) "
    graph = graph_of("float[N,3] x", nodes + "h = Sub (x, m) k = Mul (h, t) y = MatMul (k, W)")
    assert joinable(to_torch(graph), graph, stage(graph, {"x": vectors()})) is None


def test_a_fixed_batch_of_several_is_left_as_it_is(stage: Stage) -> None:
    graph = graph_of("float[2,3] x", "y = MatMul (x, W)")
    assert joinable(to_torch(graph), graph, stage(graph, {"x": vectors(6)})) is None


def test_shared_inputs_are_not_joined(stage: Stage) -> None:
    graph = graph_of("float[N,3] x, float t", "h = MatMul (x, W) y = Mul (h, t)")
    data = stage(graph, {"x": vectors(), "t": np.float32(3)})
    assert joinable(to_torch(graph), graph, data) == frozenset("x")


def test_a_number_that_differs_between_samples_keeps_them_apart(stage: Stage) -> None:
    def source() -> Any:
        for number, row in enumerate(vectors()):
            yield {"x": row[None], "t": np.float32(max(1, number - 2))}

    graph = graph_of("float[N,3] x, float t", "h = MatMul (x, W) y = Mul (h, t)")
    assert joinable(to_torch(graph), graph, stage(graph, source)) is None


def test_several_inputs_are_joined_together(stage: Stage) -> None:
    graph = graph_of("float[N,3] a, float[N,3] b", "h = Add (a, b) y = MatMul (h, W)")
    data = stage(graph, {"a": vectors(), "b": vectors() + 1})
    assert joinable(to_torch(graph), graph, data) == frozenset("ab")


def test_one_sample_has_none_to_be_joined_with(stage: Stage) -> None:
    graph = graph_of("float[N,3] x", "y = MatMul (x, W)")
    assert joinable(to_torch(graph), graph, stage(graph, {"x": vectors(1)})) is None
