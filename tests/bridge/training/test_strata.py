"""Who is held out where samples have classes."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.bridge.training.judged import judged_by
from graphopt.bridge.training.strata import spread_out, strata
from graphopt.contract.training import LossOptions
from graphopt.graph.tensors import Array
from graphopt.tasks.task import Task

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)).astype(np.float32)
MAPS = RNG.normal(size=(6, 4, 3, 4)).astype(np.float32)


def strata_of(labels: Array, answer: Array = LOGITS) -> list[int] | None:
    tasks = {"y": Task("y", "regression", 1)}
    _, judged, values = judged_by(labels, tasks, {"y": answer}, LossOptions(alpha=1.0))
    found = strata(judged, values)
    return None if found is None else found.tolist()


def test_samples_go_by_class_or_by_the_rarest_that_they_have() -> None:
    assert strata_of(np.array([0, 1, 3, 2, 0, 1])) == [0, 1, 3, 2, 0, 1]
    tags = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0] * 4, [1, 1, 1, 0], [0, 0, 0, 1]]
    assert strata_of(np.array(tags)) == [0, 1, 0, -1, 2, 3]
    maps = np.zeros((6, 3, 4), np.int64)
    maps[1, 0, 0], maps[2] = 3, -100
    assert strata_of(maps, MAPS) == [0, 3, -1, 0, 0, 0]
    assert strata_of(LOGITS) is None


@pytest.mark.parametrize("count", [0, 1, 7, 50, 99, 100])
def test_the_order_holds_every_element_once(count: int) -> None:
    classes = RNG.integers(0, 9, 100)
    assert sorted(spread_out(classes, count).tolist()) == list(range(100))
