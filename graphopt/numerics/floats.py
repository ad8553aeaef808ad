"""Floats in another width."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["to_float32"]

_RANGE = np.finfo(np.float32)


def to_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """The nearest float32, of the same sign and finite where the value is.

    What lies beyond its range becomes the largest number, and what would become 0 the smallest
    normal one: masks of -1e300 stay finite and guards of 1e-300 against division by 0 stay guards.

    >>> to_float32(np.array([1e300, -1e-300, 0.0, -np.inf]))
    array([ 3.4028235e+38, -1.1754944e-38,  0.0000000e+00,           -inf],
          dtype=float32)
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        near = values.astype(np.float32)
    near = np.where(np.isinf(near) & np.isfinite(values), np.sign(values) * _RANGE.max, near)
    near = np.where((near == 0) & (values != 0), np.sign(values) * _RANGE.smallest_normal, near)
    return near.astype(np.float32)
