"""Whether a budget was kept is decided in one place."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.contract.budgets import at_most_one, missed_budget
from graphopt.errors import UsageError

SHARES = st.floats(0.001, 1)


@given(asked=SHARES, reached=SHARES, least=st.booleans())
def test_it_is_missed_where_more_is_left_than_asked(
    asked: float, reached: float, least: bool
) -> None:
    missed = missed_budget("macs", asked, reached, "why", least=least)
    kept = reached >= asked if least else reached <= asked
    if math.isclose(asked, reached, rel_tol=2e-6):
        return
    assert (missed is None) is kept
    if missed is not None:
        assert (missed.asked, missed.reached, missed.reason) == (asked, reached, "why")


@pytest.mark.parametrize(
    ("reached", "text"),
    [
        (0.62, "macs=0.5 is missed at 0.620: why"),
        (0.50001, "macs=0.5 is missed at 0.50001: why"),
        (0.5000011, "macs=0.5 is missed at 0.50000110: why"),
        (None, "macs=0.5 cannot be told to be kept: why"),
    ],
)
def test_the_figures_that_are_told_differ(reached: float | None, text: str) -> None:
    assert str(missed_budget("macs", 0.5, reached, "why")) == text


def test_counts_are_told_as_such() -> None:
    missed = missed_budget("blocks", 9, 2, "why", least=True)
    assert str(missed) == "blocks=9 is missed at 2: why"


def test_several_budgets_are_refused_by_their_options() -> None:
    at_most_one("some-pass", {"macs": 0.5, "bytes": None})
    at_most_one("some-pass", {"macs": None})
    with pytest.raises(
        UsageError, match=r"^some-pass: macs and bytes exclude each other; give one"
    ):
        at_most_one("some-pass", {"macs": 0.5, "params": None, "bytes": 0.0})
