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
