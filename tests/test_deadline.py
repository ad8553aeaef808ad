"""When the time is over, and what is said then."""

from __future__ import annotations

import time

import pytest

from graphopt.deadline import Deadline
from graphopt.errors import Need, PassError


def test_without_a_limit_the_time_is_never_over() -> None:
    ends = Deadline(None, time.perf_counter() - 1e9)
    assert not ends.over
    ends.check("at all")


def test_a_time_that_is_over_ends_work_and_says_so() -> None:
    assert not Deadline(1e6).over
    ends = Deadline(1e6, time.perf_counter() - 1e6)
    assert ends.over
    assert ends.told("not tried: int8") == "not tried: int8; the time limit of 1e+06 s was over"
    words = r"^the time limit of 1e\+06 s was over before it began$"
    with pytest.raises(PassError, match=words) as caught:
        ends.check("before it began")
    assert caught.value.needs == (Need.TIME_LIMIT,)


def test_what_is_over_of_the_time_from_a_moment_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: 25.0)
    ends = Deadline(30.0, 10.0)
    assert ends.passed(20.0) == 0.25
    assert ends.passed(25.0) == 0.0
    assert Deadline(30.0, -10.0).passed(20.0) == 1.0  # the end lies behind
    assert Deadline(10.0, 10.0).passed(20.0) == 1.0
    assert Deadline(None).passed(20.0) == 0.0


def test_a_part_of_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: 25.0)
    assert Deadline(30.0, 10.0).part(0.5) == Deadline(8.0, 25.0)
    assert Deadline(5.0, 10.0).part(0.5) == Deadline(0.0, 25.0)
    assert Deadline(None, 10.0).part(0.5) == Deadline(None, 10.0)
