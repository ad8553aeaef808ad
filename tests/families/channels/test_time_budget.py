"""A budget of time, held by measuring."""

from __future__ import annotations

import pytest

from graphopt.families.channels.time_budget import nearest_within


@pytest.mark.parametrize("power", [0.7, 0.8, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
def test_what_is_asked_for_follows_what_is_measured(power: float, factor: float) -> None:
    """Where less or more time is left than was predicted, more or less is asked for."""
    asked: list[float] = []

    def at(most: float) -> tuple[float, float, bool]:
        asked.append(most)
        return most, factor * most**power, True

    found, left = nearest_within(at, 0.5, 0.5)
    assert left == factor * found**power
    assert 0.9 * 0.5 <= left <= 0.5
    assert len(set(asked)) == len(asked) <= 5


def test_what_cannot_be_kept_to_is_not_tried_again() -> None:
    asked: list[float] = []

    def at(most: float) -> tuple[str, float, bool]:
        asked.append(most)
        return "least", 0.7, False

    assert nearest_within(at, 0.5, 0.5) == ("least", 0.7)
    assert asked == [0.5]


def test_of_steps_the_larger_that_keeps_to_it_counts() -> None:
    steps = (0.3, 0.45, 0.6)

    def at(most: float) -> tuple[float, float, bool]:
        step = max(each for each in steps if each <= max(most, 0.3))
        return step, step, True

    assert nearest_within(at, 0.4, 0.5) == (0.45, 0.45)
