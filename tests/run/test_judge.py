from __future__ import annotations

import numpy as np
import pytest

from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import ModelError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.run import shared_session
from graphopt.run.judge import Judge
from graphopt.runtime.session import Session
from graphopt.tasks.task import Task
from graphopt.testing import model_from_text

TASKS = {"y": Task("y", "classes", axis=1, form="logits"), "n": Task("n", "indices")}


def _graph(scale: float = 1.0) -> Graph:
    return io.load(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 13]>
            g (float[N,4] x) => (float[N,4] y, int64 n) { y = Mul (x, s)  n = Size (x) }""",
            {"s": np.array(scale, np.float32)},
        )
    )


def test_the_reference_agrees_with_itself() -> None:
    graph = _graph()
    judge = Judge(graph, SyntheticSamples(graph), "random", threads=1, limit=3).reading(TASKS)
    assert len(judge.samples) == 3
    quality = judge.compare(judge.run(Session(graph, threads=1)))
    assert quality.sqnr_db["y"] == 300
    assert quality.agreement_top1 == 100
    assert (quality.samples, quality.source) == (3, "random")


def test_no_session_is_opened_to_read_outputs_that_are_not_fed_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_session, "HELD_WEIGHTS_BYTES", -1)
    graph = _graph()
    judge = Judge(graph, SyntheticSamples(graph), "random", threads=1, limit=3)
    monkeypatch.setattr(shared_session, "Session", None)
    assert judge.reading(TASKS).rollouts == []


def test_sqnr_is_that_of_the_definition() -> None:
    graph = _graph()
    judge = Judge(graph, SyntheticSamples(graph), "random", threads=1, limit=3).reading(TASKS)
    quality = judge.compare(judge.run(Session(_graph(1.01))))
    assert quality.sqnr_db["y"] == pytest.approx(40, abs=1e-3)  # 10 log10(1 / 0.01^2)
    quality = judge.compare(judge.run(Session(_graph(-1))))
    assert quality.agreement_top1 == 0


def test_a_graph_that_does_not_load_is_a_model_error() -> None:
    graph = _graph()
    judge = Judge(graph, SyntheticSamples(graph), "random", threads=1, limit=1)
    graph.main.nodes[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError):
        judge.run(Session(graph, threads=1))
