"""What fresh samples would give at least, judged by the few that were measured.

The pooled figure of a few samples is no bound: quantized models answer most samples well and a
rare one badly (values beyond the calibrated range, a branch that flips), and the bad ones may be
among the unseen. Plain bootstrap intervals, also BCa and bootstrap-t, resample only what was seen
and are too narrow for that. Here the bootstrap gets one more sample that is some times as wrong as
the worst one that was seen: how many times was chosen on 300 random graphs with 16 to 128 samples,
so that 256 fresh ones keep the bound in 95 % of the cases.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from graphopt.numerics.sqnr import decibels

__all__ = ["CONFIDENCE", "FEW", "least_share", "least_sqnr_db"]

FEW = 1000
"""From so many samples on the pooled figure stands alone."""
CONFIDENCE = 0.95
"""Share of cases, one-sided, in which fresh samples are not worse than the bound."""
_WORSE = 3.0
"""Noise of the unseen sample over that of the worst seen one."""
_CLIPPED = 64.0
"""The same times the root of the number of samples, where fixed ranges clip what lies beyond."""
_DRAWS = 400
_SEED = 0


def least_sqnr_db(
    signal: NDArray[np.float64], noise: NDArray[np.float64], *, clipped: bool = False
) -> float | None:
    """The SQNR in dB that fresh samples give at least; None from less than two samples.

    The 5 % quantile of the pooled SQNR over bootstrap samples (fixed seed) of the measured ones
    and one more, as strong as the noisiest and with a multiple of its noise.

    Args:
        signal: Sum of squares of the expected values of each sample ``(samples,)``.
        noise: Sum of squared differences of each sample ``(samples,)``.
        clipped: Whether ranges that were fixed beforehand clip what lies beyond them.

    >>> ones = np.ones(16)
    >>> least_sqnr_db(ones, ones / 100, clipped=True) < least_sqnr_db(ones, ones / 100) < 20
    True
    """
    if len(signal) < 2:
        return None
    noisiest = int(noise.argmax())
    worse = max(_WORSE, _CLIPPED / len(signal) ** 0.5) if clipped else _WORSE
    sums = [np.append(signal, signal[noisiest]), np.append(noise, worse * noise[noisiest])]
    draws = _draws(len(signal) + 1)
    pooled = decibels(draws @ sums[0], draws @ sums[1])
    bound = float(np.quantile(pooled, 1 - CONFIDENCE))
    return min(bound, float(decibels(signal.sum(), noise.sum())))


def least_share(hits: NDArray[np.int64], of: NDArray[np.int64]) -> float | None:
    """The share of hits that fresh samples give at least; None from less than two samples.

    One decision a sample: the one-sided bound of Clopper and Pearson (1934), the ``1 -
    CONFIDENCE`` quantile of ``Beta(hits, samples - hits + 1)``. Several, which hang together:
    the bootstrap of ``least_sqnr_db``, where an error less than one counts as one.

    Args:
        hits: Right decisions of each sample ``(samples,)``.
        of: All decisions of each sample ``(samples,)``.

    >>> round(least_share(np.ones(16, np.int64), np.ones(16, np.int64)), 3)
    0.829
    """
    if len(hits) < 2:
        return None
    if (of == 1).all():
        right = int(hits.sum())
        return float(betaincinv(right, len(hits) - right + 1, 1 - CONFIDENCE)) if right else 0.0
    missed = (of - hits).astype(np.float64)
    worst = int((missed / of).argmax())
    unseen = min(_WORSE * max(missed[worst], 1.0), float(of[worst]))
    draws = _draws(len(hits) + 1)
    shares = (draws @ np.append(missed, unseen)) / (draws @ np.append(of, of[worst]))
    return float(1 - max(np.quantile(shares, CONFIDENCE), missed.sum() / of.sum()))


@lru_cache(maxsize=4)
def _draws(samples: int) -> NDArray[np.float64]:
    """How often each bootstrap sample holds each sample: ``(draws, samples)``."""
    rng = np.random.default_rng(_SEED)
    return rng.multinomial(samples, [1 / samples] * samples, size=_DRAWS).astype(np.float64)
