"""Masks: exact counts under ties, and the lowest scores go first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.numerics import scores

# few different magnitudes, so that ties are the rule
TIED = hnp.arrays(np.float32, st.integers(0, 30), elements=st.sampled_from([-2, -1, 0, 1, 2, 3]))
SPARSITY = st.floats(0, 1)


@given(TIED, SPARSITY)
def test_the_count_is_exact_and_the_lowest_go(values: np.ndarray, sparsity: float) -> None:
    count = scores.zero_count(values.size, sparsity)
    (keep,) = scores.lowest_masks([values], count)
    assert (~keep).sum() == count
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    assert set(np.flatnonzero(~keep)) == set(order[:count])


@given(st.lists(TIED, max_size=4), SPARSITY)
def test_several_arrays_are_ranked_as_one(ranks: list[np.ndarray], sparsity: float) -> None:
    count = scores.zero_count(sum(each.size for each in ranks), sparsity)
    masks = scores.lowest_masks(ranks, count)
    assert [mask.shape for mask in masks] == [values.shape for values in ranks]
    if ranks:
        (whole,) = scores.lowest_masks([np.concatenate(ranks)], count)
        np.testing.assert_array_equal(np.concatenate(masks), whole)


def test_infinite_scores_are_ranked_too() -> None:
    ranks = [np.array([np.inf, 1.0, -np.inf]), np.array([-np.inf])]
    assert [m.tolist() for m in scores.lowest_masks(ranks, 2)] == [[True, True, False], [False]]


@given(
    hnp.arrays(np.float32, (3, 8, 2), elements=st.sampled_from([-2, -1, 0, 1, 2, 3])),
    st.sampled_from([(2, 4), (1, 4), (4, 8), (0, 2), (2, 2)]),
)
def test_pattern(values: np.ndarray, numbers: tuple[int, int]) -> None:
    pattern = scores.Pattern(*numbers)
    keep = scores.pattern_mask(values, pattern, 1)
    assert (1 - keep.mean()) == pytest.approx(pattern.sparsity)
    for out, tap in np.ndindex(3, 2):
        for start in range(0, 8, pattern.group):
            places = range(start, start + pattern.group)
            order = sorted(places, key=lambda i: (values[out, i, tap], i))
            kept = {i for i in places if keep[out, i, tap]}
            assert kept == set(order[pattern.group - pattern.kept :])


def test_pattern_needs_whole_groups() -> None:
    with pytest.raises(ValueError, match="3 is no multiple of 4"):
        scores.pattern_mask(np.ones((3, 3)), scores.Pattern(2, 4), 1)


@given(TIED, st.sampled_from([0.0, 0.5, 1.0, 2.5, np.inf]))
def test_threshold(values: np.ndarray, threshold: float) -> None:
    assert scores.threshold_mask(values, threshold).tolist() == [
        abs(value) >= threshold for value in values.tolist()
    ]


def test_shapes_stay() -> None:
    values = np.arange(24.0).reshape(2, 3, 4) - 12
    assert scores.lowest_masks([values], 12)[0].shape == (2, 3, 4)
    assert scores.threshold_mask(np.float64(3) * np.ones(()), 1).shape == ()


def test_the_smallest_integer_has_a_magnitude() -> None:
    assert scores.magnitudes(np.array([-128, 1, 2], dtype=np.int8)).tolist() == [128, 1, 2]


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan")])
def test_sparsity_has_bounds(sparsity: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        scores.zero_count(3, sparsity)


@pytest.mark.parametrize("threshold", [-1.0, float("nan")])
def test_threshold_has_bounds(threshold: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        scores.threshold_mask(np.ones(3), threshold)


def test_nan_is_refused() -> None:
    holed = np.array([1, np.nan])
    for refuses in (
        lambda: scores.magnitudes(holed),
        lambda: scores.lowest_masks([holed], 1),
        lambda: scores.pattern_mask(holed, scores.Pattern(1, 2), 0),
    ):
        with pytest.raises(ValueError, match="NaN"):
            refuses()
