"""Sizes and MACs of one run: inferred from a feed, traced where that is not enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.facts.macs import MacCount
from graphopt.graph.graph import Graph
from graphopt.run.sizing import sized_run


def graph_of(ports: str, body: str, **weights: NDArray[Any]) -> Graph:
    text = f'<ir_version: 8, opset_import: ["" : 18]> g {ports} {{ {body} }}'
    graph = Graph(onnx.parser.parse_model(text))
    for name, values in weights.items():
        graph.main.initializers[name] = graph.store(name, values)
    graph.main.touch()
    return graph


WEIGHT = np.ones((3, 2, 1, 1), np.float32)
PICTURES = "(float[N, 2, H, W] x) => (float[N, 3, A, B] y)"


def test_a_feed_gives_the_sizes() -> None:
    graph = graph_of(PICTURES, "y = Conv(x, w)", w=WEIGHT)
    found = sized_run(graph, {"x": np.zeros((2, 2, 5, 7), np.float32)})
    assert found.macs == MacCount(2 * 5 * 7 * 6)
    assert found.inputs == {"x": (2, 2, 5, 7)}


def test_sizes_that_depend_on_values_are_traced() -> None:
    body = "i = NonZero(f) k = Transpose <perm = [1, 0]> (i) c = Cast <to = 1> (k) y = MatMul(c, w)"
    graph = graph_of("(float[4] f) => (float[R, 3] y)", body, w=np.ones((1, 3), np.float32))
    assert sized_run(graph).macs.total is None
    found = sized_run(graph, {"f": np.array([0, 1, 0, 2], np.float32)})
    assert found.macs == MacCount(2 * 3)
    assert found.inputs == {}  # the file says how large they are


def test_traced_sizes_go_on_into_bodies() -> None:
    body = """i = NonZero(f) k = Transpose <perm = [1, 0]> (i) h = Cast <to = 1> (k)
      y = If (c) <
        then_branch = t () => (float[R, 3] o) { o = MatMul(h, w) },
        else_branch = e () => (float[R, 3] p) { p = MatMul(h, w) }
      >"""
    ports = "(float[4] f, bool c) => (float[R, 3] y)"
    graph = graph_of(ports, body, w=np.ones((1, 3), np.float32))
    feeds: dict[str, NDArray[Any]] = {"f": np.array([0, 1, 0, 2], np.float32), "c": np.array(True)}
    assert sized_run(graph, feeds).macs == MacCount(2 * 3)


@pytest.mark.parametrize(
    ("inputs", "total", "missing"),
    [
        ("float[N, 2, 5, 7] x", 5 * 7 * 6, ""),
        ("float[1, 2, 5, 7] x", 5 * 7 * 6, ""),
        ("float[N, 2, H, W] x", None, "the file leaves sizes open: x float[?, 2, ?, ?]"),
    ],
)
def test_without_a_feed_a_free_first_axis_is_a_batch_of_one(
    inputs: str, total: int | None, missing: str
) -> None:
    graph = graph_of(f"({inputs}) => (float[A, 3, B, C] y)", "y = Conv(x, w)", w=WEIGHT)
    assert sized_run(graph).macs == MacCount(total, missing)
