"""The learning rate over the steps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.bridge.training.schedule import rate


def test_it_climbs_in_a_line_then_falls_as_half_a_cosine() -> None:
    found = [rate(step, 20, 0.2) for step in range(20)]
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1.0
    assert found[12] == pytest.approx(0.5)  # half of the way down
    expected = [0.5 * (1 + math.cos(math.pi * (step - 4) / 16)) for step in range(4, 20)]
    assert found[4:] == pytest.approx(expected)


def test_without_warm_up_it_begins_at_the_top() -> None:
    assert rate(0, 10, 0.0) == 1.0


def test_between_steps_and_at_the_end_of_the_time() -> None:
    assert rate(1.5, 4, 0.5) == 1.0
    assert rate(3.0, 4, 0.5) < rate(2.5, 4, 0.5) < 1.0
    assert rate(4.0, 4, 0.5) == pytest.approx(0.0)


def test_all_steps_may_climb() -> None:
    assert [rate(step, 4, 1.0) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


@given(st.integers(1, 500), st.floats(0, 1))
def test_it_is_a_positive_share_and_falls_once_it_has_climbed(total: int, warmup: float) -> None:
    found = [rate(step, total, warmup) for step in range(total)]
    assert all(0 < share <= 1 for share in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
