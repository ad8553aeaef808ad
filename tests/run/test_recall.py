"""What the reference answered is held, within a bound, and only for the same samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.data.synthetic import SyntheticSamples
from graphopt.graph import io
from graphopt.run.evaluation import evaluate
from graphopt.run.recall import Recall
from graphopt.runtime.session import Session
from graphopt.testing import MODELS

GRAPH = io.load(MODELS["no-layers"]())
SAMPLES = SyntheticSamples(GRAPH, count=3)


class Counted(Session):
    """Counts its runs."""

    runs = 0

    def run(self, feeds: Any) -> Any:
        self.runs += 1
        return super().run(feeds)


def test_the_reference_runs_once_for_all_candidates() -> None:
    first, other, recall = Counted(GRAPH, threads=1), Counted(GRAPH, threads=1), Recall(1 << 20)
    plain = evaluate(GRAPH, [first, other], SAMPLES, None, source="eval")
    without = first.runs
    first.runs = other.runs = 0
    found = [
        evaluate(GRAPH, [first, other], SAMPLES, None, source="eval", recall=recall)
        for _ in range(3)
    ]
    assert found == [plain] * 3
    assert first.runs == 3 * without - 2 * SAMPLES.count  # what is left tries out the batch
    assert other.runs == 3 * SAMPLES.count


@pytest.mark.parametrize("most", [0, 1])
def test_what_is_too_large_is_not_held(most: int) -> None:
    session, recall = Counted(GRAPH, threads=1), Recall(most)
    feeds = next(SAMPLES.feeds(limit=1))[0]
    for _ in range(2):
        recall.answer(session, SAMPLES, 1, 0, feeds)
    assert session.runs == 2


def test_an_answer_may_be_written_on_and_others_are_not_mixed_up() -> None:
    session, recall = Counted(GRAPH, threads=1), Recall(1 << 20)
    feeds = next(SAMPLES.feeds(limit=1))[0]
    name = GRAPH.main.outputs[0]
    right = recall.answer(session, SAMPLES, 1, 0, feeds)[name].copy()
    recall.answer(session, SAMPLES, 1, 0, feeds)[name][...] = np.nan
    assert np.array_equal(recall.answer(session, SAMPLES, 1, 0, feeds)[name], right)
    assert session.runs == 1
    recall.answer(session, SyntheticSamples(GRAPH, count=3), 1, 0, feeds)
    recall.answer(session, SAMPLES, 2, 0, feeds)
    assert session.runs == 3
