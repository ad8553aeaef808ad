"""Centres, against the best that there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from graphopt.numerics.codebooks import extra_bits, fit_centres, nearest_centres, row_scales

Floats = NDArray[np.float64]
VALUES = hnp.arrays(np.float64, st.integers(1, 9), elements=st.integers(-20, 20).map(float))


def error(values: Floats, weights: Floats, centres: Floats) -> float:
    """Of the nearest centre of each value, by looking at all of them."""
    distances = np.square(values[:, None] - centres[None]).min(axis=1)
    return float((weights * distances).sum() / weights.sum())


def least_error(values: Floats, weights: Floats, count: int) -> float:
    """Of all cuts of the sorted values into ranges: the best centres in one dimension."""
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    best = np.inf
    for cuts in itertools.combinations_with_replacement(range(len(values) + 1), count - 1):
        parts = np.split(np.arange(len(values)), cuts)
        total = 0.0
        for part in parts:
            mass = weights[part].sum()
            if mass > 0:
                mean = (weights[part] * values[part]).sum() / mass
                total += float((weights[part] * np.square(values[part] - mean)).sum())
        best = min(best, total)
    return best / float(weights.sum())


@given(VALUES, st.integers(1, 4), st.data())
def test_centres_are_a_local_minimum_not_below_the_least(
    values: Floats, count: int, data: st.DataObject
) -> None:
    weights = data.draw(hnp.arrays(np.float64, len(values), elements=st.floats(0.1, 4)))
    centres = fit_centres(values, weights, count)
    assert len(centres) == count and (np.diff(centres) >= 0).all()
    found = error(values, weights, centres)
    assert found >= least_error(values, weights, count) - 1e-9
    codes = nearest_centres(values, centres)
    for code in set(codes.tolist()):
        own = codes == code
        mean = (weights[own] * values[own]).sum() / weights[own].sum()
        assert centres[code] == pytest.approx(mean, abs=1e-9)


def test_the_best_of_the_starts_is_near_the_least() -> None:
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(12):
        values, weights = rng.normal(size=10), rng.uniform(0.1, 4, 10)
        found = error(values, weights, fit_centres(values, weights, 3))
        ratios.append(found / least_error(values, weights, 3))
    assert np.median(ratios) < 1.05 and max(ratios) < 3


@given(VALUES, st.integers(2, 4))
def test_a_centre_at_zero_stays_there(values: Floats, count: int) -> None:
    centres = fit_centres(values, None, count, zero=True)
    assert (centres == 0).any()
    zeros = np.zeros(3)
    assert not centres[nearest_centres(zeros, centres)].any()


def test_as_many_centres_as_values_stand_for_them_exactly() -> None:
    values = np.array([-3.0, 0.5, 7.0])
    assert fit_centres(np.repeat(values, 5), None, 4).tolist()[0] == -3.0
    assert error(values, np.ones(3), fit_centres(values, None, 4)) < 1e-20


def test_values_that_count_more_are_met_better() -> None:
    values = np.array([0.0, 1.0, 10.0, 11.0])
    left = fit_centres(values, np.array([100.0, 100.0, 1e-3, 1e-3]), 3)
    assert np.isin([0.0, 1.0], left).all()


def test_weights_of_nothing_count_alike() -> None:
    values = np.array([1.0, 2.0, 8.0])
    assert fit_centres(values, np.zeros(3), 2).tolist() == fit_centres(values, None, 2).tolist()


@given(
    hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(-5, 5)),
    hnp.arrays(np.float64, st.integers(1, 6), elements=st.floats(-5, 5)),
)
def test_nearest_is_nearest(values: Floats, centres: Floats) -> None:
    centres = np.sort(centres)
    picked = centres[nearest_centres(values, centres)]
    least = np.abs(values[:, None] - centres[None]).min(axis=1)
    np.testing.assert_allclose(np.abs(values - picked), least, atol=1e-12)


def test_a_row_counts_by_what_matters_of_it() -> None:
    rows = np.array([[3.0, 4.0], [1.0, 100.0], [0.0, 0.0]])
    importance = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    scales = row_scales(rows, importance)
    np.testing.assert_allclose(scales, [np.sqrt(12.5), 1.0, 1.0])
    np.testing.assert_allclose(row_scales(rows)[0], np.sqrt(12.5))
    unseen = row_scales(np.array([[2.0, 2.0]]), np.zeros((1, 2)))
    assert unseen.tolist() == [2.0]


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=6),
    st.integers(1, 8),
    st.floats(0, 1),
    st.integers(0, 2),
)
def test_extra_bits_go_to_small_weights_within_their_share(
    sizes: list[int], bits: int, extra: float, less: int
) -> None:
    least = max(bits - less, 1)
    found = extra_bits(sizes, bits, extra, least)
    spent = sum(size * each for size, each in zip(sizes, found, strict=True))
    assert spent <= bits * (1 + extra) * sum(sizes) + 1e-6
    assert all(least <= each <= 8 for each in found)
    assert extra_bits(sizes, bits, 0.0, bits) == [bits] * len(sizes)


def test_extra_bits_cost_least() -> None:
    sizes, bits = [3, 10, 40], 3
    found = extra_bits(sizes, bits, 0.0, 2)
    every = itertools.product(range(2, 9), repeat=3)
    fits = [each for each in every if np.dot(each, sizes) <= bits * sum(sizes)]
    costs = [sum(4.0**-b for b in each) for each in fits]
    assert sum(4.0**-b for b in found) <= 1.5 * min(costs)
    assert found[0] >= found[1] > found[2]
