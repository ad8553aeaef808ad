"""Budgets over several things against all ways to spend them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.allocation import Priced, allot

FORMS = st.lists(st.builds(Priced, st.integers(1, 20), st.integers(0, 30)), min_size=1, max_size=4)
THINGS = st.lists(FORMS, min_size=1, max_size=4)


def _sums(choices: list[list[Priced]], chosen: tuple[int, ...] | list[int]) -> tuple[float, float]:
    picked = [each[index] for each, index in zip(choices, chosen, strict=True)]
    return sum(each.cost for each in picked), sum(each.loss for each in picked)


@given(THINGS, st.integers(0, 80))
def test_the_budget_is_kept_wherever_that_is_possible(
    choices: list[list[Priced]], budget: int
) -> None:
    cost, _ = _sums(choices, allot(choices, budget))
    least = sum(min(form.cost for form in each) for each in choices)
    assert cost <= max(budget, least)


@given(THINGS)
def test_without_a_budget_nothing_is_lost_in_vain(choices: list[list[Priced]]) -> None:
    _, loss = _sums(choices, allot(choices, 1000))
    assert loss == sum(min(form.loss for form in each) for each in choices)


@given(THINGS, st.integers(0, 80))
def test_no_way_that_costs_as_little_loses_far_less(
    choices: list[list[Priced]], budget: int
) -> None:
    found = allot(choices, budget)
    cost, loss = _sums(choices, found)
    every = itertools.product(*(range(len(each)) for each in choices))
    sums = [_sums(choices, chosen) for chosen in every]
    best = min((each for paid, each in sums if paid <= budget), default=loss)
    # greedy on the hull is off by no more than its last step
    largest = max(max(f.loss for f in each) - min(f.loss for f in each) for each in choices)
    assert loss <= best + largest
    if cost == budget and len(choices) == 1:
        assert loss == best


def test_convex_forms_are_spent_best() -> None:
    choices = [[Priced(8 - k, weight * k * k) for k in range(8)] for weight in (1.0, 2.0, 5.0)]
    every = list(itertools.product(range(8), repeat=3))
    for budget in range(3, 25):
        best = min(loss for cost, loss in (_sums(choices, c) for c in every) if cost <= budget)
        assert _sums(choices, allot(choices, budget))[1] == pytest.approx(best)
