"""Slices against brute force, and what they are for: constants and neighbours hide nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.slices import axis_sums, least_slice

NOISE = 0.1
SINGLE = 2.0**-20
HALF = 2.0**-12


def _worst(values: np.ndarray, error: np.ndarray, axis: int = 1) -> tuple[int, float]:
    found = least_slice(axis_sums(values, error, [axis])[axis], SINGLE)
    assert found is not None
    return found


@given(st.integers(0, 2**16), st.integers(2, 5), st.integers(2, 6))
def test_few_slices_are_each_their_own_variance_over_their_noise(
    seed: int, rows: int, columns: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((8 * rows, columns, 3)) * 3
    error = rng.standard_normal(values.shape) * rng.uniform(0.01, 1, (1, columns, 1))
    ratios = [
        10 * np.log10(values[:, n].var() * values[:, n].size / np.square(error[:, n]).sum())
        for n in range(columns)
    ]
    index, db = _worst(values, error)
    assert index == int(np.argmin(ratios))
    assert db == pytest.approx(min(ratios), abs=1e-6)


def test_sums_of_parts_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    values, error = rng.standard_normal((2, 30, 4, 5))
    whole = axis_sums(values, error, [1])[1]
    parts = axis_sums(values[:11], error[:11], [1])[1]
    parts.join(axis_sums(values[11:], error[11:], [1])[1])
    for name in ("mean", "spread", "signal", "noise", "low", "high"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-12)
    assert parts.count == whole.count == 150


def test_neither_a_constant_nor_a_large_neighbour_hides_noise() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((200, 3)) * [1, 100, 1]
    values[:, 0] += 1000
    error = np.zeros_like(values)
    error[:, 0] = rng.standard_normal(200)
    assert _worst(values, error)[0] == 0
    assert abs(_worst(values, error)[1]) < 1
    error = np.zeros_like(values)
    error[:, 2] = rng.standard_normal(200)
    assert _worst(values, error)[0] == 2
    assert abs(_worst(values, error)[1]) < 1


def test_what_does_not_vary_beyond_rounding_decides_nothing() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((200, 3))
    values[:, 1] = 7 + 1e-7 * values[:, 1]
    values[:, 2] = 1e-9 * values[:, 2]
    error = np.full_like(values, 0.01)
    assert _worst(values, error)[0] == 0
    assert least_slice(axis_sums(values[:, 1:], error[:, 1:], [1])[1], SINGLE) is None
    assert least_slice(axis_sums(np.ones((9, 3)), error[:9], [1])[1], SINGLE) is None


def test_one_of_a_thousand_that_hardly_moves_is_held_against_the_others() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((64, 1000))
    values[:, 5] *= 0.3
    error = NOISE * rng.standard_normal(values.shape)
    index, db = _worst(values, error)
    alone = 20 * np.log10(0.3 / NOISE)
    assert db > alone + 5
    error[:, 5] = rng.standard_normal(64)  # a ruined one is seen all the same
    index, db = _worst(values, error)
    assert index == 5
    assert abs(db) < 2


def test_scores_among_pixels_are_one_family_apart() -> None:
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 640, (400, 4))
    scores = rng.uniform(0, 0.2, (400, 8))
    scores[:, 7] *= 0.01  # a class that is hardly ever there
    values = np.concatenate([boxes, scores], axis=1)
    error = np.zeros_like(values)
    error[:, 4:] = 0.002 * rng.standard_normal((400, 8))
    assert _worst(values, error)[1] > 25
    error[:, 6] = 0.06 * rng.standard_normal(400)
    index, db = _worst(values, error)
    assert index == 6
    assert db < 3


def test_without_telling_samples_the_whole_power_counts() -> None:
    values = np.full((20, 2), 5.0)
    values[:, 1] = 50
    error = np.full((20, 2), 0.5)
    found = least_slice(axis_sums(values, error, [1])[1], SINGLE, about_mean=False)
    assert found is not None
    assert found[0] == 0
    assert found[1] == pytest.approx(20)


@given(
    st.integers(0, 2**16),
    st.lists(st.integers(1, 20), min_size=1, max_size=5),
    st.sampled_from([0.0, 1.0, 1e4, -1e9]),
)
def test_what_varies_about_a_large_constant_is_told_from_it(
    seed: int, parts: list[int], offset: float
) -> None:
    rng = np.random.default_rng(seed)
    values = offset + rng.standard_normal((sum(parts) + 1, 2, 3))
    sums = axis_sums(values[:1], np.zeros((1, 2, 3)), [1])[1]
    start = 1
    for size in parts:
        part = values[start : start + size]
        sums.join(axis_sums(part, np.zeros_like(part), [1])[1])
        start += size
    exact = values - offset  # float64 holds it to 1e-7 even beside 1e9
    right = [float(exact[:, n].var() * exact[:, n].size) for n in range(2)]
    np.testing.assert_allclose(sums.spread, right, rtol=1e-5)
    np.testing.assert_allclose(sums.whole().spread, exact.var() * exact.size, rtol=1e-5)


@pytest.mark.parametrize(
    ("deviation", "rounding", "told"),
    [(8e-6, SINGLE, True), (8e-6, HALF, False), (1e-7, SINGLE, False), (1e-3, HALF, True)],
)
def test_rounding_says_how_little_is_information(
    deviation: float, rounding: float, told: bool
) -> None:
    rng = np.random.default_rng(0)
    values = 1000 * (1 + deviation * rng.standard_normal((200, 2)))
    sums = axis_sums(values, 1e-3 * rng.standard_normal(values.shape), [1])[1]
    assert sums.informative(rounding).tolist() == [told, told]


def test_a_slice_far_below_its_neighbour_is_information_where_rounding_is_finer() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((200, 2)) * [1e9, 0.3]
    sums = axis_sums(values, np.zeros_like(values), [1])[1]
    assert sums.informative(SINGLE).tolist() == [True, False]
    assert sums.informative(2.0**-40).tolist() == [True, True]
