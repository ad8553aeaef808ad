from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphopt.numerics.equalization import equalizing, lowest_factors

RANGES = arrays(np.float64, 5, elements=st.just(0.0) | st.floats(1e-6, 1.0))
FREE = np.full(5, 1e-9), np.full(5, 1e9)


@given(RANGES, RANGES)
def test_both_sides_get_the_same_range_and_keep_their_product(
    made: np.ndarray, taken: np.ndarray
) -> None:
    factors = equalizing(made, taken, *FREE)
    live = (made > 0) & (taken > 0)
    np.testing.assert_allclose((made / factors)[live], (taken * factors)[live])
    np.testing.assert_allclose(factors[~live], 1)


@given(RANGES, RANGES, st.floats(0.1, 1.0), st.floats(1.0, 3.0))
def test_factors_keep_their_bounds(
    made: np.ndarray, taken: np.ndarray, least: float, most: float
) -> None:
    factors = equalizing(made, taken, np.full(5, least), np.full(5, most))
    assert ((factors >= least) & (factors <= most)).all()


@given(
    arrays(np.float64, (20, 3), elements=st.floats(-9, 9)),
    st.floats(1.0, 3.0),
    st.floats(0.1, 8.0),
)
def test_a_clip_gives_the_same_within_the_bounds_that_are_told(
    values: np.ndarray, margin: float, asked: float
) -> None:
    """Also for values up to ``margin`` times the peak that was seen."""
    bound = 6.0
    cut = np.clip(values, 0, bound)
    least, most = lowest_factors(cut.max(axis=0), bound, margin)
    factors = np.clip(asked, np.maximum(least, 1e-6), most)
    beyond = np.minimum(np.vstack([values, cut.max(axis=0) * margin]), bound)
    beyond = np.where(most == 1, np.vstack([values, values[:1]]), beyond)  # these stay as they are
    right = np.clip(beyond, 0, bound) / factors
    np.testing.assert_allclose(np.clip(beyond / factors, 0, bound), right, atol=1e-9)
