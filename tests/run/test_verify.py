"""What a result is measured to be by the clock. Nothing is timed: ratios are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from graphopt.contract.settings import Machine
from graphopt.graph.graph import Graph
from graphopt.run import verify as module
from graphopt.run.stage import Stage
from graphopt.run.verify import verify
from graphopt.runtime.latency import Ratio, Timed, Times, joint
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, staged


@pytest.mark.parametrize(
    ("given", "limit", "expected"),
    [
        ([1.1, 1.0], None, 1.05),
        ([1.1, 1.12], None, 1.11),
        ([1.3, 1.0], None, 1.3),
        ([0.9, 1.3], None, 0.9),
        ([1.1, 1.0], 1 << 30, 1.1),  # no room for other sessions
    ],
)
def test_a_result_that_is_a_little_slower_is_timed_again(
    monkeypatch: pytest.MonkeyPatch, given: list[float], limit: int | None, expected: float
) -> None:
    sessions: list[Session] = []
    left = list(given)

    def fake(
        graphs: Sequence[Graph], asked: Sequence[Session], *_: Any, **__: Any
    ) -> tuple[list[Timed], int]:
        assert not {*map(id, asked)} & {*map(id, sessions)}
        sessions.extend(asked)
        ratio = Ratio(left.pop(0), 0.03)
        return [Timed(Times((2.0,)), Ratio(1, 0)), Timed(Times((2 * ratio.median,)), ratio)], 1

    monkeypatch.setattr(module, "side_by_side", fake)
    stage, means = staged(MODELS["cnn"](), calibrated=False)
    means = replace(means, machine=Machine(threads=1, memory_limit=limit))
    found = verify(Stage(stage.graph.copy(), means), means)
    assert found.after.ratio.median == pytest.approx(expected)
    assert found.after.times.median_ms == pytest.approx(2 * expected)
    assert found.before.times.median_ms == 2
    if len(sessions) == 4:
        assert found.after.ratio == joint(Ratio(given[0], 0.03), Ratio(given[1], 0.03))
        assert not found.after.ratio.slower or given[1] > 1.05
