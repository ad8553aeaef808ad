from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.batchnorm import scale_channels, scale_shift


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_scale_and_shift_are_the_normalization(channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gamma, beta, mean = rng.standard_normal((3, channels)).astype(np.float32)
    var = rng.uniform(0.01, 2, channels).astype(np.float32)
    x = rng.standard_normal((7, channels))
    k, s = scale_shift(gamma, beta, mean, var, 1e-5)
    expected = gamma * (x - mean) / np.sqrt(var.astype(np.float64) + 1e-5) + beta
    np.testing.assert_allclose(k * x + s, expected, rtol=1e-9, atol=1e-9)


def test_a_negative_variance_is_not_finite() -> None:
    ones = np.ones(1)
    assert not np.isfinite(scale_shift(ones, ones, ones, -ones, 0.0)[0]).any()


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_grouped_channels_count_within_their_group(
    groups: int, outer: int, inner: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((groups * outer, inner, 2))
    factors = rng.standard_normal(groups * inner)
    found = scale_channels(weight, 1, factors, groups)
    for row in range(groups * outer):
        for column in range(inner):
            factor = factors[(row // outer) * inner + column]
            np.testing.assert_allclose(found[row, column], weight[row, column] * factor)
