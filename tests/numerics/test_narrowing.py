"""Widths within a budget."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.numerics.narrowing import Curve, allocate, damage_between, widths_of


def _curve(units: int, weight: float, power: float = 2.0) -> Curve:
    widths = widths_of(units, 1, 1)
    gone = np.array([units - width for width in widths]) / units
    return Curve(widths, weight * gone**power)


def _damage(curves: Sequence[Curve], widths: Sequence[int]) -> float:
    pairs = zip(curves, widths, strict=True)
    return float(sum(curve.damage[curve.widths.index(width)] for curve, width in pairs))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 6), st.floats(0.1, 10)), min_size=2, max_size=3),
    st.floats(0.3, 1),
)
def test_little_damage_within_the_budget(forms: list[tuple[int, float]], share: float) -> None:
    curves = [_curve(units, weight) for units, weight in forms]
    sizes = [units for units, _ in forms]

    def cost(widths: Sequence[int]) -> float:
        chain = [1.0, *(w / s for w, s in zip(widths, sizes, strict=True)), 1.0]
        return sum(a * b for a, b in itertools.pairwise(chain))

    budget = share * cost(sizes)
    found = allocate(curves, cost, budget)
    choices = itertools.product(*(curve.widths for curve in curves))
    within = [widths for widths in choices if cost(widths) <= budget]
    if not within:
        assert found == [1] * len(curves)
        return
    assert cost(found) <= budget
    best = min(_damage(curves, widths) for widths in within)
    assert _damage(curves, found) <= 2 * best + 1e-12  # greedy, and products are not convex


def test_what_hurts_nobody_goes_first_and_nothing_goes_without_need() -> None:
    curves = [_curve(8, 0.0), _curve(8, 1.0)]
    assert allocate(curves, sum, 12) == [4, 8]
    assert allocate(curves, sum, 16) == [8, 8]


def test_a_hump_is_stepped_over() -> None:
    steep_first = Curve((8, 7, 6, 5, 4), np.array([0, 0.5, 0.5, 0.5, 0.5]))
    assert allocate([steep_first, _curve(8, 4.0)], sum, 12) == [4, 8]


def test_the_narrowest_where_the_budget_is_out_of_reach() -> None:
    assert allocate([_curve(4, 1.0), _curve(3, 1.0)], sum, 0) == [1, 1]


@pytest.mark.parametrize(
    ("units", "step", "least", "widths"),
    [
        (16, 8, 1, (16, 8)),
        (17, 8, 1, (17, 16, 8)),
        (5, 8, 1, (5,)),
        (4, 1, 3, (4, 3)),
        (64, 16, 20, (64, 48, 32)),
    ],
)
def test_widths(units: int, step: int, least: int, widths: tuple[int, ...]) -> None:
    assert widths_of(units, step, least) == widths


@given(st.lists(st.floats(0, 1), min_size=4, max_size=9), st.floats(1e-6, 1), st.floats(1, 100))
def test_measured_damage_is_met_and_never_falls(
    steps: list[float], low: float, more: float
) -> None:
    errors = np.concatenate([[0.0], np.cumsum([1e-6 + step for step in steps])])
    gone = [1, len(steps) - 1]
    damage = damage_between(errors, gone, [low, low * more])
    assert damage[0] == 0
    assert (np.diff(damage) >= 0).all()
    np.testing.assert_allclose(damage[gone], [low, low * more], rtol=1e-6)


def test_damage_measured_as_nothing_is_nearly_nothing() -> None:
    damage = damage_between(np.array([0.0, 0.1, 0.2, 0.4]), [1, 2], [0.0, -1e-8])
    assert (damage < 1e-8).all()


def test_a_small_budget_takes_no_big_step() -> None:
    wide = Curve((100, 10), np.array([0.0, 1.0]))  # the least damage for all that it saves
    small = [Curve((10, 5), np.array([0.0, 0.1])) for _ in range(4)]
    assert allocate([wide, *small], sum, 140 - 10) == [100, 5, 5, 10, 10]


def test_steps_that_only_pay_together_are_found() -> None:
    """The two that are cheapest for what they save leave a rest that is dear."""
    cheap, dear = Curve((9, 0), np.array([0.0, 4.0])), Curve((5, 0), np.array([0.0, 2.3]))
    assert allocate([cheap, cheap, *[dear] * 6], sum, 18) == [9, 9, *[0] * 6]
