"""Which shares are tried on the way to what a limit allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.search.nearing import Nearing


def shares(allowed: float, power: float, *, told: bool = True) -> tuple[list[float], Nearing]:
    """The shares of a search where losses grow by a power of what goes."""
    near, tried = Nearing(), list[float]()
    while (share := near.share) is not None:
        tried.append(share)
        used = ((1 - share) / allowed) ** power
        near.tell(used <= 1, used if told else None)
    return tried, near


def test_a_loss_that_grows_as_expected_takes_three_trials() -> None:
    tried, near = shares(0.27, 2.0)
    assert tried == [0.85, 0.75, 0.7]
    assert (near.held, near.broken) == (5, 6)


def test_without_a_figure_the_middle_is_next() -> None:
    tried, near = shares(0.12, 2.0, told=False)
    assert tried == [0.85, 0.95, 0.9]
    assert (near.held, near.broken) == (2, 3)


def test_nothing_holds() -> None:
    tried, near = shares(0.01, 2.0)
    assert tried == [0.85, 0.95]
    assert near.held == 0


@given(allowed=st.floats(0.02, 0.95), power=st.floats(0.5, 5), told=st.booleans())
def test_it_ends_between_what_held_and_what_did_not(
    allowed: float, power: float, told: bool
) -> None:
    tried, near = shares(allowed, power, told=told)
    assert len(tried) == len(set(tried)) <= 6
    held = [share for share in tried if ((1 - share) / allowed) ** power <= 1]
    assert near.held == pytest.approx(20 * (1 - min(held, default=1.0)))
    assert near.held < near.broken
