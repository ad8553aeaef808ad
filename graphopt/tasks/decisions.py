"""What scores decide, and how much of that is the same."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from graphopt.graph.tensors import Array
from graphopt.numerics.fresh import least_share
from graphopt.tasks.task import Task

__all__ = ["Decisions"]

_SHORT = 256
"""Classes whose numbers fit a byte."""
_SHORTEST = 8
"""Of the last axis."""


@dataclass
class Decisions:
    """What is decided by scores, and how much of that is the same.

    ``answers`` are the same ones and all, sample by sample, held of a few samples only.
    """

    task: Task
    same: int = 0
    positions: int = 0
    chosen: NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, np.int64))
    answers: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, f: Array, g: Array, samples: int, *, keep: bool) -> None:
        """Count the decisions of some samples."""
        if not self.task.scores:
            return
        axis = self.task.axis
        if self.task.kind == "classes":
            if axis is None or axis >= f.ndim or f.shape[axis] < 2:
                return
            same = _largest(f, axis) == _largest(g, axis)
        else:
            ours, theirs = f > self.task.threshold, g > self.task.threshold
            same = ours == theirs
            self.chosen += [ours.sum(), theirs.sum(), (ours & theirs).sum()]
        by_sample = same.reshape(samples, -1)
        self.same += int(same.sum())
        self.positions += same.size
        if keep:
            all_ = np.full(samples, by_sample.shape[1])
            self.answers.append(np.stack([by_sample.sum(axis=1), all_]))

    @property
    def agreement(self) -> float | None:
        """Share of the same decisions, percent."""
        return 100 * self.same / self.positions if self.positions else None

    @property
    def unusual(self) -> float | None:
        """F1 of the decision that is the seldom one, percent; None where there is only one."""
        if self.task.kind == "classes" or not self.positions:
            return None
        ours, theirs, both = (int(each) for each in self.chosen)
        if 2 * ours > self.positions:  # yes is the usual one
            ours, theirs = self.positions - ours, self.positions - theirs
            both = self.same - both
        return 200 * both / (ours + theirs) if ours + theirs else None

    def least(self) -> float | None:
        """What fresh samples agree in at least, percent."""
        if not self.answers:
            return None
        share = least_share(*np.concatenate(self.answers, axis=1))
        return None if share is None else 100 * share


def _largest(values: Array, axis: int) -> NDArray[np.integer]:
    """``argmax``, which is slow along any axis but the last, where that is short."""
    moved = np.moveaxis(values, axis, 0)
    if len(moved) > (_SHORTEST if axis == values.ndim - 1 else _SHORT):
        places: NDArray[np.integer] = np.asarray(values.argmax(axis))
        return places
    best = moved[0].copy()
    places = np.zeros(best.shape, np.uint8)
    for number, each in enumerate(moved[1:], start=1):
        larger = (each > best).view(np.uint8)
        np.maximum(best, each, out=best)
        np.maximum(places, larger * np.uint8(number), out=places)
    return places
