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


SCORE = st.just(0.0) | st.floats(1e-150, 100)
"""Squares of floats that are not so small that a factor of them is rounded to few digits."""
POWERS = hnp.arrays(np.float64, st.integers(0, 12), elements=SCORE)


@given(POWERS)
def test_layer_adaptive_is_the_share_of_what_is_left(powers: np.ndarray) -> None:
    found = scores.layer_adaptive(powers)
    order = sorted(range(len(powers)), key=lambda i: (powers[i], i))
    for rank, place in enumerate(order):
        left = sum(powers[other] for other in order[rank:])
        assert found[place] == pytest.approx(powers[place] / left if left else 0)


@given(POWERS, st.floats(0.01, 100))
def test_layer_adaptive_does_not_see_how_large_a_layer_is(
    powers: np.ndarray, factor: float
) -> None:
    scaled = scores.layer_adaptive(factor * powers)
    np.testing.assert_allclose(scaled, scores.layer_adaptive(powers), rtol=1e-9, atol=1e-200)


def test_layer_adaptive_lets_zeros_go_first() -> None:
    found = scores.layer_adaptive(np.array([[-np.inf, 1.0], [3.0, -np.inf]]))
    assert found.tolist() == [[-np.inf, 0.25], [1.0, -np.inf]]
    assert scores.layer_adaptive(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]


@given(
    hnp.arrays(np.int64, (4, 3, 8), elements=st.integers(-9, 9)),
    st.sampled_from([(1, 1), (4, 1), (2, 2), (1, 8), (4, 8)]),
)
def test_blocks(values: np.ndarray, block: tuple[int, int]) -> None:
    sums = scores.block_sums(values, block)
    outputs, inputs = block
    assert sums.shape == (4 // outputs, 3, 8 // inputs)
    for out, tap, column in np.ndindex(*sums.shape):
        rows = slice(out * outputs, (out + 1) * outputs)
        columns = slice(column * inputs, (column + 1) * inputs)
        assert sums[out, tap, column] == values[rows, tap, columns].sum()
    mask = scores.block_mask(sums > 0, block)
    assert mask.shape == values.shape
    np.testing.assert_array_equal(scores.block_sums(mask, block) > 0, sums > 0)


@given(TIED, SPARSITY)
def test_asked_zeros_are_the_lowest_scores_or_the_pattern(
    values: np.ndarray, sparsity: float
) -> None:
    asked = scores.AskedZeros(sparsity)
    count = scores.zero_count(values.size, sparsity)
    np.testing.assert_array_equal(asked.keep(values), scores.lowest_masks([values], count)[0])
    pattern = scores.Pattern(2, 4)
    rows = np.resize(values, (2, 8)) if values.size else np.zeros((2, 8))
    kept = scores.AskedZeros(sparsity, pattern).keep(rows)
    np.testing.assert_array_equal(kept, scores.pattern_mask(rows, pattern, 1))
