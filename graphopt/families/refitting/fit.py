"""What a layer is solved by, and how well it does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from graphopt.families.refitting.solvable import Solvable
from graphopt.numerics.least_squares import Behind, Solved, solve_layer
from graphopt.numerics.moments import Moments, MomentSums

__all__ = ["Fit"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_SAME = 1e-4
"""Weights that differ by no more, relative to the largest, are solved the same way already."""
_SAME_MEAN = 1e-3
"""Likewise a bias, relative to how much the results vary."""


@dataclass(frozen=True, eq=False)
class Fit:
    """What one layer is solved by.

    Attributes:
        of: What is solved for.
        rows: What it reads now: ``(rows, groups, width)``; no values where only a bias is wanted.
        wanted: What its result, with what is added to it, should be: ``(rows, groups, out)``.
        behind: What becomes of the result.
        weight: As it is, ``(groups, width, out)``.
        bias: As it is, ``(groups, out)``; zero without one.
        start: The weight to stay near where the rows do not tell: that of the float model, or the
            same as ``weight`` where that has none of this shape.
    """

    of: Solvable
    rows: Singles
    wanted: Singles
    behind: Behind
    weight: Floats
    bias: Floats
    start: Floats

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the rows."""
        sums = MomentSums(*self.rows.shape[1:])
        sums.add(self.rows)
        return sums.result()

    def solved(
        self, ridge: float | None, rounds: int, mask: NDArray[np.bool_], *, biased: bool
    ) -> Solved:
        """The weight and bias of least error; see ``solve_layer``.

        Args:
            ridge: How strongly to pull; None for what is best on the last samples.
            rounds: Of the majorisation.
            mask: Which elements may differ from zero.
            biased: Whether the layer has a bias.
        """
        return solve_layer(
            self.rows,
            self.wanted,
            self.start,
            ridge=ridge if self.weight.size else 0.0,
            mask=mask,
            behind=self.behind,
            rounds=rounds,
            biased=biased,
            moments=None if ridge is None else self.moments,
        )

    def bias_for(self, weight: Floats, biased: bool, rounds: int = 3) -> Floats:
        """The bias of least error for a weight, as it is seen behind the layer; else zero.

        Args:
            weight: ``(groups, width, out)``.
            biased: Whether the layer has one.
            rounds: Of the majorisation.
        """
        if not biased:
            return np.zeros_like(self.bias)
        now = np.einsum("ngk,gko->ngo", self.rows, weight.astype(np.float32), optimize=True)
        if self.behind.added is not None:
            now += self.behind.added
        bias = (self.wanted - now).mean(axis=0, dtype=np.float64)
        for _ in range(rounds if self.behind.flat else 0):
            near = self.behind.nearest(self.wanted, now + bias.astype(np.float32))
            bias = (near - now).mean(axis=0, dtype=np.float64)
        return np.asarray(bias)

    def error(self, weight: Floats, bias: Floats) -> float:
        """Squared error of the results as it is seen behind the layer, by their variance."""
        now = np.einsum("ngk,gko->ngo", self.rows, weight.astype(np.float32), optimize=True)
        now += bias.astype(np.float32)
        if self.behind.added is not None:
            now += self.behind.added
        wrong = now - self.behind.nearest(self.wanted, now)
        spread = float(self.wanted.var(axis=0, dtype=np.float64).sum())
        error = float(np.square(wrong, dtype=np.float64).sum()) / max(len(self.rows), 1)
        return error / max(spread, 1e-30)

    def differs(self, solved: Solved) -> bool:
        """Whether a solution is another than what there is."""
        if not self.weight.size:
            spread = float(self.wanted.std(axis=0, dtype=np.float64).max(initial=0))
            return float(np.abs(solved.bias - self.bias).max(initial=0)) > _SAME_MEAN * spread
        change = float(np.abs(solved.weight - self.weight).max(initial=0))
        return change > _SAME * float(np.abs(self.weight).max(initial=0))
