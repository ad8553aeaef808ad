"""Weights on a codebook: which values they can have, and centres for codes that are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.codebooks import nearest_centres

__all__ = ["CentreGrid", "solved_centres"]

Floats = NDArray[np.float64]

_ROWS = 128
"""Outputs that centres are solved for by: more say nothing new of so few numbers."""
_DAMPING = 1e-6


@dataclass(frozen=True, eq=False)
class CentreGrid:
    """``scale * c`` with a centre c of a codebook, for each value of a weight.

    Attributes:
        scale: Zero or more, ``(groups, width or 1, out)``.
        centres: ``(count,)``, rising.
    """

    scale: Floats
    centres: Floats

    def codes(self, values: Floats) -> NDArray[np.intp]:
        """Which centre is nearest to each value, by its scale."""
        scale = np.broadcast_to(self.scale, values.shape)
        ratio = np.divide(values, scale, out=np.zeros(values.shape), where=scale > 0)
        return nearest_centres(ratio, self.centres)

    def nearest(self, values: Floats) -> Floats:
        """The nearest value of the codebook for each."""
        return np.asarray(self.centres[self.codes(values)] * self.scale)

    def column(self, index: int) -> CentreGrid:
        """That of one input."""
        return CentreGrid(self.scale[:, index if self.scale.shape[1] > 1 else 0], self.centres)

    def outputs(self, chosen: slice) -> CentreGrid:
        """That of some outputs."""
        return CentreGrid(self.scale[..., chosen], self.centres)

    def scaled(self, factors: Sequence[float]) -> CentreGrid:
        """Those of other scales, side by side."""
        scale = np.concatenate([self.scale * factor for factor in factors], axis=-1)
        return CentreGrid(scale, self.centres)


def solved_centres(
    weight: Floats, covariance: Floats, grid: CentreGrid, codes: NDArray[np.intp]
) -> Floats:
    """The centres with which codes that stay cost the results least, by least squares.

    With ``A_r`` the one-hot codes of output r and ``s_r`` its scales, the centres solve
    ``sum_r (s_r A_r)' H (s_r A_r) c = sum_r (s_r A_r)' H w_r``. Centres that are 0 stay so, and so
    do those that no code picks.

    Args:
        weight: ``(groups, width, out)``.
        covariance: H, ``(groups, width, width)``.
        grid: Scales and centres as they are.
        codes: Which centre each value has, ``(groups, width, out)``.

    Returns:
        ``(count,)``, in the order of the centres; it need not rise.
    """
    count = len(grid.centres)
    groups, _, outs = weight.shape
    scale = np.broadcast_to(grid.scale, weight.shape)
    normal, right = np.zeros((count, count)), np.zeros(count)
    for out in np.unique(np.linspace(0, outs - 1, min(outs, _ROWS)).astype(int)):
        for group in range(groups):
            shown = np.zeros((weight.shape[1], count))
            shown[np.arange(len(shown)), codes[group, :, out]] = scale[group, :, out]
            seen = covariance[group] @ shown
            normal += shown.T @ seen
            right += seen.T @ weight[group, :, out]
    free = (grid.centres != 0) & (np.diagonal(normal) > 0)
    centres = grid.centres.copy()
    if free.any():
        level = _DAMPING * np.diagonal(normal)[free].mean()
        kept = normal[np.ix_(free, free)] + level * np.eye(int(free.sum()))
        moved = right[free] - normal[np.ix_(free, free)] @ centres[free]
        centres[free] += np.linalg.solve(kept, moved)
    return centres
