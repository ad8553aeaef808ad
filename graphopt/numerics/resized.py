"""Maps of numbers at other places."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["resized"]


def resized(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The values whose pixel holds the middle of each pixel of another size: nearest neighbour.

    Place i of n takes place floor((i + 1/2) N / n) of N, in both axes.

    >>> resized(np.arange(4)[:, None], (2, 1)).tolist()
    [[1], [3]]

    Args:
        values: ``(..., height, width)``, none of them 0.
        size: Height and width of the result.
    """
    rows, columns = (
        ((2 * np.arange(new) + 1) * old) // (2 * new)
        for new, old in zip(size, values.shape[-2:], strict=True)
    )
    return values[..., rows[:, None], columns]
