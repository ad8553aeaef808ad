"""States that are fed back: what some steps of it come to, against the recursion by hand."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.data.synthetic import SyntheticSamples
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.observe.request import Rows
from graphopt.run.evaluation import evaluate
from graphopt.run.judge import Judge
from graphopt.run.rolling import STEPS, rollouts
from graphopt.runtime.session import Session
from graphopt.tasks.task import Task
from graphopt.testing import model_from_text

TASKS = {
    "y": Task("y", "regression", axis=1),
    "h_out": Task("h_out", "state", fed_to="h"),
}
ONE = Rows(1, 1, first=True)


def _cell(decay: float) -> Graph:
    return io.load(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[1,4] x, float[1,4] h) => (float[1,4] y, float[1,4] h_out) {
                kept = Mul (h, a)  h_out = Add (kept, x)  y = Add (h_out, x) }""",
            {"a": np.array(decay, np.float32)},
        )
    )


def _last(decay: float, xs: list[np.ndarray], h: np.ndarray) -> np.ndarray:
    for x in xs:
        h = decay * h + x
    return h


def test_errors_of_a_state_add_up_as_in_the_recursion() -> None:
    right, wrong = _cell(0.9), _cell(0.8)
    judge = Judge(right, SyntheticSamples(right), "calib", threads=1, limit=5).reading(TASKS)
    assert len(judge.rollouts) == 2
    quality = judge.compare(judge.run(Session(wrong, threads=1)))
    signal = noise = 0.0
    count = len(judge.samples)
    for first in range(2):
        places = [(first + step) % count for step in range(STEPS)]
        feeds = [judge.samples[n].feeds for n in places]
        xs = [feed["x"].astype(np.float64) for feed in feeds]
        f, g = (_last(decay, xs, feeds[0]["h"].astype(np.float64)) for decay in (0.9, 0.8))
        signal, noise = signal + np.square(f).sum(), noise + np.square(f - g).sum()
    state = quality.outputs["h_out"]
    assert state.steps == STEPS
    assert state.after_steps_db == pytest.approx(10 * np.log10(signal / noise), abs=1e-3)
    assert state.numbers_db is not None
    assert state.decides_db == state.numbers_db - 8
    assert quality.outputs["y"].steps == STEPS
    assert quality.samples == count
    same = judge.compare(judge.expected)
    assert same.outputs["h_out"].after_steps_db == 300
    alone = judge.compare([sample.answers for sample in judge.samples])
    assert (alone.outputs["h_out"].steps, alone.outputs["h_out"].sqnr_db) == (0, 300)


def test_the_proof_feeds_back_too() -> None:
    right, wrong = _cell(0.9), _cell(0.8)
    samples = SyntheticSamples(right)
    sessions = [Session(graph, threads=1) for graph in (right, wrong)]
    (quality,) = evaluate(right, sessions, samples, None, source="eval", tasks=TASKS)
    judge = Judge(right, samples, "calib", threads=1).reading(TASKS)
    by_judge = judge.compare(judge.run(sessions[1]))
    assert quality.outputs["h_out"].after_steps_db is not None
    assert quality.outputs["h_out"].after_steps_db == by_judge.outputs["h_out"].after_steps_db
    (plain,) = evaluate(right, sessions, samples, None, source="eval")
    assert plain.outputs["h_out"].steps == 0


def test_a_state_that_grows_is_not_fed_back() -> None:
    graph = io.load(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1] x, float[1,N] past) => (float[1,M] present)
            { present = Concat <axis = 1> (past, x) }"""
        )
    )
    tasks = {"present": Task("present", "state", fed_to="past")}
    feeds = {"x": np.ones((1, 1), np.float32), "past": np.ones((1, 3), np.float32)}
    assert rollouts(Session(graph, threads=1), tasks, [feeds], [ONE]) == []


def test_a_model_whose_state_changes_in_shape_is_at_fault() -> None:
    right = _cell(0.9)
    judge = Judge(right, SyntheticSamples(right), "calib", threads=1, limit=2).reading(TASKS)
    answers = judge.expected
    ends = len(judge.samples) + STEPS - 3
    quality = judge.compare(answers[:ends] + [{}] * 3 + answers[ends + 3 :])
    assert "state of another shape after 5 steps" in quality.outputs["h_out"].fault
    assert quality.worst_db == -300
