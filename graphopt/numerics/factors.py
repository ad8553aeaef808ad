"""Which parts of a sum weigh more than they seem, learnt from a few measurements of the whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_factors"]

Floats = NDArray[np.float64]

_SPREAD = 0.5
"""How far a factor may be from that of all, as a share of it: one standard deviation."""
_NOISE = 0.04
"""The same of a measurement."""
_LEAST = 0.15
"""No factor is less than this share of that of all: what is taken counts for something."""


def draw_factors(
    parts: Floats, wholes: Floats, rng: np.random.Generator, boldness: float = 0.5
) -> Floats:
    """Factors ``(parts,)`` that go with what was measured, one draw of many that do.

    The whole is taken to be ``sum_g f_g d_g``. All ``f_g`` are near ``f``, which the first
    measurement tells; each further one says something of those whose parts were others then. What
    follows is the normal distribution of linear regression, of which one draw is returned: it errs
    where little is known, so that who acts by it learns there.

    >>> rng = np.random.default_rng(0)
    >>> parts = np.array([[1.0, 1.0], [2.0, 0.5]])
    >>> draw_factors(parts, np.array([4.0, 7.0]), rng, boldness=0.0).round(1).tolist()
    [3.3, 0.8]

    Args:
        parts: ``(measurements, parts)``, at least one measurement; none negative.
        wholes: ``(measurements,)``, none negative.
        rng: Random numbers.
        boldness: Multiplies the standard deviation of the draw; 0 for the likeliest factors.

    Source: Bishop 2006, Pattern Recognition and Machine Learning, section 3.3; Thompson 1933, On
    the Likelihood that One Unknown Probability Exceeds Another, for acting by draws.
    """
    common = float(wholes[0]) / max(float(parts[0].sum()), 1e-30)
    count = parts.shape[1]
    if common <= 0:
        return np.ones(count)
    variance = (_SPREAD * common) ** 2
    error = (_NOISE * float(np.mean(wholes))) ** 2
    seen = variance * (parts @ parts.T) + error * np.eye(len(parts))
    gain = variance * np.linalg.solve(seen, parts).T
    mean = common + gain @ (wholes - common * parts.sum(axis=1))
    covariance = variance * (np.eye(count) - gain @ parts)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    drawn = vectors @ (np.sqrt(np.maximum(values, 0)) * rng.standard_normal(count))
    return np.asarray(np.maximum(mean + boldness * drawn, _LEAST * common))
