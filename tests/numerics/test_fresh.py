"""Bounds for fresh samples: they hold as often as they say, and say something."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from graphopt.numerics.fresh import CONFIDENCE, least_share, least_sqnr_db
from graphopt.numerics.sqnr import decibels

Noise = Callable[[np.random.Generator, int], NDArray[np.float64]]
NOISES: dict[str, Noise] = {
    "steady": lambda rng, count: rng.chisquare(10, count) / 10,
    "exponential": lambda rng, count: rng.exponential(size=count),
    "lognormal": lambda rng, count: rng.lognormal(sigma=1.0, size=count),
    "heavy": lambda rng, count: rng.pareto(2.0, count),
    "clipped": lambda rng, count: rng.pareto(1.2, count),  # infinite variance
}
FRESH = 256
TRIALS = 200


@pytest.mark.parametrize("count", [16, 64, 128])
@pytest.mark.parametrize("kind", NOISES)
def test_fresh_samples_keep_the_bound(kind: str, count: int) -> None:
    rng = np.random.default_rng(count)
    held = 0
    for _ in range(TRIALS):
        signal = rng.chisquare(30, count + FRESH) / 30
        noise = NOISES[kind](rng, count + FRESH) / 1000
        bound = least_sqnr_db(signal[:count], noise[:count], clipped=kind == "clipped")
        assert bound is not None
        held += bool(decibels(signal[count:].sum(), noise[count:].sum()) >= bound)
    slack = 2 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / TRIALS)  # of a count of 200 trials
    assert held / TRIALS >= CONFIDENCE - slack


@pytest.mark.parametrize(("count", "widest"), [(16, 3.5), (128, 1.0), (900, 0.3)])
def test_steady_noise_gets_a_narrow_bound(count: int, widest: float) -> None:
    rng = np.random.default_rng(0)
    noise = NOISES["steady"](rng, count)
    bound = least_sqnr_db(np.ones(count), noise)
    assert bound is not None
    assert 0 < decibels(count, noise.sum()) - bound < widest


def test_clipped_ranges_widen_the_bound_of_few_samples() -> None:
    rng = np.random.default_rng(0)
    gaps = []
    for count in (16, 64, 900):
        ones, noise = np.ones(count), rng.chisquare(10, count)
        free, clipped = least_sqnr_db(ones, noise), least_sqnr_db(ones, noise, clipped=True)
        assert free is not None
        assert clipped is not None
        gaps.append(free - clipped)
    assert gaps[0] > gaps[1] > gaps[2] == 0


def test_the_bound_is_no_better_than_what_was_measured_and_always_the_same() -> None:
    noise = np.random.default_rng(1).pareto(1.0, 20)
    bounds = {least_sqnr_db(np.ones(20), noise) for _ in range(3)}
    assert len(bounds) == 1
    (bound,) = bounds
    assert bound is not None
    assert bound <= decibels(20, noise.sum())


def test_one_sample_says_nothing_and_exact_ones_stay_exact() -> None:
    assert least_sqnr_db(np.ones(1), np.ones(1)) is None
    assert least_sqnr_db(np.ones(16), np.zeros(16)) == 300
    assert least_sqnr_db(np.zeros(16), np.zeros(16)) == 300
    assert least_share(np.ones(1, np.int64), np.ones(1, np.int64)) is None


@pytest.mark.parametrize(
    ("right", "of", "least"),
    [(16, 16, 0.8293), (15, 16, 0.7360), (0, 16, 0.0), (298, 300, 0.9791)],
)
def test_shares_of_single_decisions_are_clopper_pearson(right: int, of: int, least: float) -> None:
    hits = np.arange(of) < right
    assert least_share(hits.astype(np.int64), np.ones(of, np.int64)) == pytest.approx(
        least, abs=1e-4
    )


@pytest.mark.parametrize("share", [0.999, 0.99, 0.8])
def test_shares_of_many_decisions_hold_for_fresh_samples(share: float) -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(TRIALS):
        chance = rng.beta(200 * share, 200 * (1 - share), 16 + FRESH)
        hits, of = rng.binomial(400, chance), np.full(16 + FRESH, 400)
        least = least_share(hits[:16], of[:16])
        assert least is not None
        held += bool(hits[16:].sum() / of[16:].sum() >= least)
    assert held / TRIALS >= CONFIDENCE - 0.03
