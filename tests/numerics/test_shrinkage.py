from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.moments import Moments, MomentSums
from graphopt.numerics.shrinkage import shrunk

RNG = np.random.default_rng(5)


def moments_of(rows: NDArray[np.float32]) -> Moments:
    sums = MomentSums(*rows.shape[1:])
    sums.add(rows)
    return sums.result()


def draw(mixed: NDArray[np.float64], samples: int, alike: int) -> NDArray[np.float32]:
    """Rows with covariance ``mixed' mixed``, each so many times nearly the same."""
    rows = np.repeat(RNG.standard_normal((samples, len(mixed))) @ mixed, alike, axis=0)
    rows = rows + 1e-3 * RNG.standard_normal(rows.shape)
    return rows[:, None].astype(np.float32)


def test_few_samples_come_nearer_to_the_truth_however_many_rows_they_have() -> None:
    mixed = np.eye(40) + 0.05 * RNG.standard_normal((40, 40))
    truth = mixed.T @ mixed
    for samples, alike in ((48, 1), (48, 30)):
        rows = draw(mixed, samples, alike)
        moments = moments_of(rows)
        errors = [
            np.square(each[0] - truth).sum() for each in (shrunk(moments, rows), moments.covariance)
        ]
        assert errors[0] < 0.5 * errors[1]


def test_many_samples_stay_as_they_are() -> None:
    mixed = RNG.standard_normal((8, 8))
    rows = draw(mixed, 20000, 1)
    moments = moments_of(rows)
    change = shrunk(moments, rows) - moments.covariance
    assert np.abs(change).max() < 2e-3 * np.abs(moments.covariance).max()
    np.testing.assert_allclose(np.diagonal(change[0]), 0, atol=1e-12)


def test_groups_are_drawn_each_by_what_it_has() -> None:
    alone, bound = RNG.standard_normal((320, 4)), RNG.standard_normal((320, 1)) * np.ones(4)
    rows = np.stack([alone, bound], axis=1).astype(np.float32)
    moments = moments_of(rows)
    left = shrunk(moments, rows) / moments.covariance
    assert left[0, 0, 1] < 0.7
    assert left[1, 0, 1] > 0.95


def test_what_cannot_be_told_stays() -> None:
    few = RNG.standard_normal((6, 1, 3)).astype(np.float32)
    assert np.array_equal(shrunk(moments_of(few), few), moments_of(few).covariance)
    constant = np.ones((64, 1, 3), np.float32)
    assert not shrunk(moments_of(constant), constant).any()
