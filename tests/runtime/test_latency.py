from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from graphopt.graph.tensors import Array
from graphopt.runtime import latency
from graphopt.runtime.latency import Times, measure, ratio
from graphopt.runtime.session import Session


class Sleeper(Session):
    """Takes the time it is told to and notes its turns."""

    def __init__(self, name: str, seconds: float, turns: list[str]) -> None:
        self.name, self.seconds, self.turns = name, seconds, turns

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        time.sleep(self.seconds)
        self.turns.append(self.name)
        return {}


def test_times_are_percentiles_of_bursts() -> None:
    times = Times(tuple(float(value) for value in range(101)))
    assert (times.low_ms, times.median_ms, times.high_ms) == (10, 50, 90)


def test_ratio_is_taken_pair_by_pair() -> None:
    # The machine slows down by ten in the middle; paired bursts do not see it.
    base = Times((1.0, 1.0, 10.0, 10.0))
    found = ratio(Times((2.0, 2.0, 20.0, 20.0)), base)
    assert found.median == pytest.approx(2.0)
    assert found.spread == pytest.approx(0.0)


def test_spread_shrinks_with_the_number_of_bursts() -> None:
    rng = np.random.default_rng(0)

    def noisy(count: int) -> float:
        draw = rng.normal(1, 0.1, (2, count))
        return ratio(Times(tuple(draw[0])), Times(tuple(draw[1]))).spread

    assert noisy(400) < noisy(16) / 3


def test_times_that_were_not_measured_together_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratio(Times((1.0,)), Times((1.0, 2.0)))


def test_a_slower_model_is_told_from_a_faster_one() -> None:
    turns: list[str] = []
    sleepers = [Sleeper("a", 0.001, turns), Sleeper("b", 0.004, turns)]
    reported: list[tuple[int, int]] = []
    times = measure(sleepers, [{}, {}], rounds=6, progress=lambda *at: reported.append(at))
    assert [len(item.bursts_ms) for item in times] == [6, 6]
    assert ratio(times[1], times[0]).median > 1.5
    assert reported[-1] == (6, 6)


def test_both_models_run_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_BURST_SECONDS", 0.0)
    turns: list[str] = []
    measure([Sleeper("a", 0, turns), Sleeper("b", 0, turns)], [{}, {}], rounds=4)
    rounds = turns[2 * 3 :]  # behind the runs that warm up
    assert [set(rounds[i : i + 2]) for i in range(0, 8, 2)] == [{"a", "b"}] * 4
    assert rounds[0::2].count("a") == 2  # neither always goes first


def test_slow_models_get_fewer_rounds() -> None:
    turns: list[str] = []
    times = measure([Sleeper("a", 0.01, turns)], [{}], rounds=1000, seconds=0.0)
    assert len(times[0].bursts_ms) == 5


@pytest.mark.parametrize(("settled", "rounds"), [(0.0, 12), (1e-9, 12), (10.0, 10)])
def test_no_round_more_than_the_spread_asks_for(settled: float, rounds: int) -> None:
    turns: list[str] = []
    sleepers = [Sleeper("a", 0.001, turns), Sleeper("b", 0.002, turns)]
    times = measure(sleepers, [{}, {}], rounds=12, settled=settled)
    assert [len(each.bursts_ms) for each in times] == [rounds, rounds]
