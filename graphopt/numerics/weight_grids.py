"""The values that the codes of a weight can stand for, and scales chosen by what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["CodeGrid", "ValueGrid", "chosen_scales", "error_of"]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

FACTORS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Of the scale that covers every value; the best and the four around it are then tried."""
_AROUND = (-2 / 3, -1 / 3, 1 / 3, 2 / 3)
_STEP = 0.1


class ValueGrid(Protocol):
    """Which values a weight ``(groups, width, out)`` can have."""

    def nearest(self, values: Floats) -> Floats:
        """The nearest of them for each of a weight."""

    def column(self, index: int) -> ValueGrid:
        """That of what is multiplied with input ``index`` of each group: ``(groups, out)``."""

    def outputs(self, chosen: slice) -> ValueGrid:
        """That of some outputs."""

    def scaled(self, factors: Sequence[float]) -> ValueGrid:
        """Those of so many times the scale, one behind the other along the outputs."""


@dataclass(frozen=True, eq=False)
class CodeGrid:
    """``scale * n`` with the integers n from ``low`` to ``high``, for each value of a weight.

    Attributes:
        scale: Above zero, ``(groups, width or 1, out)``.
        low: Least multiple, the zero point taken off; likewise, or one for all outputs.
        high: Largest multiple, likewise.
    """

    scale: Floats
    low: NDArray[np.int64]
    high: NDArray[np.int64]

    def nearest(self, values: Floats) -> Floats:
        """The nearest multiple of each value."""
        return np.asarray(np.clip(np.rint(values / self.scale), self.low, self.high) * self.scale)

    def column(self, index: int) -> CodeGrid:
        """That of one input."""
        parts = (each[:, index if each.shape[1] > 1 else 0] for each in self._parts)
        return CodeGrid(*parts)

    def outputs(self, chosen: slice) -> CodeGrid:
        """That of some outputs."""
        parts = (each[..., chosen] if each.shape[-1] > 1 else each for each in self._parts)
        return CodeGrid(*parts)

    def scaled(self, factors: Sequence[float]) -> CodeGrid:
        """Those of other scales, side by side."""
        scale = np.concatenate([self.scale * factor for factor in factors], axis=-1)
        limits = (self.low, self.high)
        low, high = (np.tile(e, len(factors)) if e.shape[-1] > 1 else e for e in limits)
        return CodeGrid(scale, low, high)

    @property
    def _parts(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        return self.scale, self.low, self.high


def error_of(wrong: Floats, covariance: Floats) -> Floats:
    """``e' H e`` of each output: how much the results vary by a change of the weight.

    Args:
        wrong: The change, ``(groups, width, out)``.
        covariance: Of the inputs, ``(groups, width, width)``.

    Returns:
        ``(groups, out)``.

    >>> error_of(np.ones((1, 2, 1)), np.ones((1, 2, 2))).tolist()
    [[4.0]]
    """
    return np.asarray(np.einsum("gko,gko->go", wrong, covariance @ wrong))


def chosen_scales(
    weight: Floats,
    covariance: Floats,
    grid: CodeGrid,
    places: Places,
    factors: Sequence[float] = FACTORS,
) -> Floats:
    """For each scale the factor with which nearest rounding costs the results least.

    Where a scale is that of whole outputs, the cost is ``e' H e`` with the covariance H of the
    inputs; where it is that of a part of what an output sums up, only the diagonal of H is looked
    at.

    Args:
        weight: What is to be rounded, ``(groups, width, out)``.
        covariance: Of what it is multiplied with, ``(groups, width, width)``.
        grid: With the largest scales that come into question.
        places: Which scale each value of the weight has, ``(groups, width, out)``.
        factors: What is tried first, descending; then thirds of 0.1 around the best.

    Returns:
        A factor for each scale, ``(scales,)``.
    """
    count = int(places.max(initial=-1)) + 1
    whole = bool((places == places[:, :1]).all())
    diagonal = np.diagonal(covariance, axis1=1, axis2=2)[..., None]
    single = covariance.astype(np.float32)

    def cost(tried: Floats) -> Floats:
        at = tried[places]
        wide = CodeGrid(grid.scale * (at if not whole else at[:, :1]), grid.low, grid.high)
        wrong = weight - wide.nearest(weight)
        if whole:
            wrong32 = wrong.astype(np.float32)
            each = np.einsum("gko,gko->go", wrong32, single @ wrong32).astype(np.float64)
            return np.bincount(places[:, 0].ravel(), each.ravel(), count).astype(np.float64)
        each = np.square(wrong) * diagonal
        return np.bincount(places.ravel(), each.ravel(), count).astype(np.float64)

    best, least = np.ones(count), np.full(count, np.inf)

    def look(tried: Floats) -> None:
        costs = cost(tried)
        better = costs < least
        best[better], least[better] = tried[better], costs[better]

    for factor in factors:
        look(np.full(count, factor))
    centre = best.copy()
    for off in _AROUND:
        look(np.minimum(centre + _STEP * off, 1.0))
    return best
