"""Which of the weights that a training went through did best on what is held out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphopt.bridge.training.figures import Figure

__all__ = ["BestSoFar", "Look"]

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Look:
    """What the held-out part says of some weights.

    Attributes:
        distance: Mean distance to the labels or to the teacher; less is better.
        counts: What the figure counts in each of several groups of samples, which are the same
            at every look: ``(groups, size)``.
    """

    distance: float
    counts: NDArray[np.float64]


class BestSoFar:
    """Tells of one look after the other whether it is the best so far.

    With a figure, nothing is taken by which it falls below where the training began. The highest
    figure counts; between looks that are within one standard error of it, the distance decides,
    which moves with every sample and not only with those whose decision turns.

    The standard error is that of the difference of two looks at the same samples, so that it is
    zero where they decide alike. Source: the rule of one standard error is that of Breiman et al.,
    Classification and Regression Trees (1984), section 3.4.3; the error is estimated by leaving
    out one group at a time (Quenouille 1956, Notes on Bias in Estimation).

    Args:
        figure: Higher is better; None where the distance alone decides.
    """

    def __init__(self, figure: Figure | None) -> None:
        self._figure = figure
        self._kept: Look | None = None
        self._highest: Look | None = None
        self._least = -math.inf

    def takes(self, look: Look, *, first: bool) -> bool:
        """Whether these weights are better than all before; if so they are what others must beat.

        Args:
            look: What is said of them; a distance that is no number is never better.
            first: They are those that the training began with, which are taken in any case.
        """
        if not (first or math.isfinite(look.distance)):
            return False
        if self._kept is None or self._highest is None or math.isinf(self._kept.distance):
            self._kept = self._highest = look
            if first and math.isfinite(look.distance) and self._figure is not None:
                self._least = self._value(look)
            return True
        better = look.distance < self._kept.distance
        if self._figure is not None:
            value = self._value(look)
            if value < self._least:
                return False
            if value > self._value(self._highest):
                self._highest = look
                better |= not self._alike(self._kept, look)
            else:
                better &= self._alike(look, self._highest)
        if better:
            self._kept = look
        return better

    def state(self) -> dict[str, Tensor]:
        """What must be stored to go on later; nothing before the first look."""
        if self._kept is None or self._highest is None:
            return {}
        figures = [self._kept.distance, self._highest.distance, self._least]
        return {
            "figures": torch.tensor(figures, dtype=torch.float64),
            "kept": torch.from_numpy(self._kept.counts),
            "highest": torch.from_numpy(self._highest.counts),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        if state:
            kept, highest, self._least = state["figures"].tolist()
            self._kept = Look(kept, state["kept"].numpy())
            self._highest = Look(highest, state["highest"].numpy())

    def _value(self, look: Look) -> float:
        assert self._figure is not None
        return self._figure.value(look.counts.sum(0).tolist())

    def _alike(self, lower: Look, higher: Look) -> bool:
        """Whether two figures are within one standard error of their difference."""
        groups = len(lower.counts)
        if groups < 2:
            return True
        without = [self._without(higher, g) - self._without(lower, g) for g in range(groups)]
        error = math.sqrt((groups - 1) * float(np.var(without)))
        between = self._value(higher) - self._value(lower)
        return between <= error + _ROUNDING * max(1.0, abs(between))

    def _without(self, look: Look, group: int) -> float:
        assert self._figure is not None
        return self._figure.value((look.counts.sum(0) - look.counts[group]).tolist())
