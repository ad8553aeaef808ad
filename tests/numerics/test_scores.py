"""Masks: exact counts under ties, and the smallest magnitudes go first."""

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
def test_the_count_is_exact_and_the_smallest_go(values: np.ndarray, sparsity: float) -> None:
    keep = scores.magnitude_mask(values, sparsity)
    assert (~keep).sum() == scores.zero_count(values.size, sparsity)
    order = sorted(range(len(values)), key=lambda i: (abs(values[i]), i))
    assert set(np.flatnonzero(~keep)) == set(order[: int((~keep).sum())])


@given(st.lists(TIED, max_size=4), SPARSITY)
def test_global_masks_are_one_mask_over_all(weights: list[np.ndarray], sparsity: float) -> None:
    masks = scores.global_masks(weights, sparsity)
    assert [mask.shape for mask in masks] == [values.shape for values in weights]
    if weights:
        whole = scores.magnitude_mask(np.concatenate(weights), sparsity)
        np.testing.assert_array_equal(np.concatenate(masks), whole)


@given(TIED, st.sampled_from([0.0, 0.5, 1.0, 2.5, np.inf]))
def test_threshold(values: np.ndarray, threshold: float) -> None:
    assert scores.threshold_mask(values, threshold).tolist() == [
        abs(value) >= threshold for value in values.tolist()
    ]


def test_shapes_stay() -> None:
    values = np.arange(24.0).reshape(2, 3, 4) - 12
    assert scores.magnitude_mask(values, 0.5).shape == (2, 3, 4)
    assert scores.threshold_mask(np.float64(3) * np.ones(()), 1).shape == ()


def test_the_smallest_integer_has_a_magnitude() -> None:
    keep = scores.magnitude_mask(np.array([-128, 1, 2], dtype=np.int8), 2 / 3)
    assert keep.tolist() == [True, False, False]


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan")])
def test_sparsity_has_bounds(sparsity: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        scores.magnitude_mask(np.ones(3), sparsity)


@pytest.mark.parametrize("threshold", [-1.0, float("nan")])
def test_threshold_has_bounds(threshold: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        scores.threshold_mask(np.ones(3), threshold)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        scores.magnitude_mask(np.array([1, np.nan]), 0.5)
