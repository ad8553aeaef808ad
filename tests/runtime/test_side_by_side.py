"""What is timed and what need not be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import parser

from graphopt.graph.graph import Graph
from graphopt.runtime import side_by_side as module
from graphopt.runtime.bursts import Runner
from graphopt.runtime.latency import Readings, Times
from graphopt.runtime.session import Session
from graphopt.runtime.side_by_side import side_by_side

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\ng (float[N, 4] x) => (float[N, 4] y)'
RELU, SAME = "{ y = Relu(x) }", "{ i = Identity(x) y = Relu(i) }"
TANH, MORE = "{ y = Tanh(x) }", "{ r = Relu(x) y = Neg(r) }"


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many models were timed; the first takes 2 ms, each other one half as long."""
    counts: list[int] = []

    def fake(runners: Sequence[Runner], **options: Any) -> list[Readings]:
        counts.append(len(runners))
        times = [Times((2.0,) * 3), *[Times((1.0,) * 3)] * (len(runners) - 1)]
        return [Readings(each, each) for each in times]

    monkeypatch.setattr(module, "measure", fake)
    return counts


def told(*bodies: str, rows: Sequence[int] = ()) -> list[tuple[float, float, str]]:
    graphs = [Graph(parser.parse_model(HEAD + body)) for body in bodies]
    feeds = [{"x": np.ones((n, 4), np.float32)} for n in rows or [1] * len(graphs)]
    sessions = [Session(graph, threads=1) for graph in graphs]
    found, bursts = side_by_side(graphs, sessions, feeds, threads=1, light=True)
    assert bursts == 3
    return [(each.times.median_ms, each.ratio.median, each.ratio.clock) for each in found]


def test_the_same_graph_is_not_timed(timings: list[int]) -> None:
    assert told(RELU, SAME) == [(2.0, 1.0, "wall"), (2.0, 1.0, "graph")]
    assert timings == [1]


def test_others_are(timings: list[int]) -> None:
    found = told(RELU, TANH, SAME, TANH)
    assert found[1:] == [(1.0, 0.5, "wall"), (2.0, 1.0, "graph"), (1.0, 0.5, "wall")]
    assert timings == [3]


def test_more_work_is_never_faster(timings: list[int]) -> None:
    assert told(RELU, MORE)[1] == (2.0, 1.0, "wall")
    assert told(MORE, RELU)[1] == (1.0, 0.5, "wall")


def test_the_same_graph_on_another_feed_is_timed(timings: list[int]) -> None:
    assert told(RELU, SAME, rows=(1, 2))[1] == (1.0, 0.5, "wall")
