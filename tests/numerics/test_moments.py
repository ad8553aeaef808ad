from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.moments import MomentSums


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_they_are_those_of_all_rows_however_they_come(parts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    far = np.float32(rng.normal() * 1e3)  # a mean far from zero, where naive sums lose all digits
    blocks = [(rng.normal(size=(n, 2, 3)) + far).astype(np.float32) for n in parts]
    sums = MomentSums(2, 3)
    for block in blocks:
        sums.add(block)
    found = sums.result()
    rows = np.concatenate(blocks).astype(np.float64)
    assert found.count == len(rows)
    if not len(rows):
        assert not found.mean.any()
        assert not found.covariance.any()
        return
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-6)
    centred = rows - rows.mean(axis=0)
    expected = np.einsum("ngi,ngj->gij", centred, centred) / len(rows)
    # the rows lie 1e3 off zero, so that each is rounded to 1e-4 before anybody reads it
    np.testing.assert_allclose(found.covariance, expected, atol=1e-3)


def test_rows_that_wait_count_and_more_may_follow() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(2, 1, size=(5000, 1, 300)).astype(np.float32)
    sums = MomentSums(1, 300)
    for end in range(100, 5001, 100):
        sums.add(rows[end - 100 : end])
        if end in (100, 4900, 5000):
            found, seen = sums.result(), rows[:end, 0].astype(np.float64)
            np.testing.assert_allclose(found.mean[0], seen.mean(axis=0), rtol=1e-5)
            wanted = np.cov(seen.T, bias=True)
            np.testing.assert_allclose(found.covariance[0], wanted, atol=1e-5)


def test_many_rows_lose_nothing() -> None:
    rows = np.tile(np.array([[[1.0, -1.0]], [[3.0, 2.0]]], np.float32), (20_000, 1, 1))
    sums = MomentSums(1, 2)
    sums.add(rows)
    found = sums.result()
    np.testing.assert_allclose(found.mean, [[2.0, 0.5]], rtol=1e-12)
    np.testing.assert_allclose(found.covariance, [[[1.0, 1.5], [1.5, 2.25]]], rtol=1e-12)
