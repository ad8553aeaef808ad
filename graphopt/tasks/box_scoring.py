"""Figures of a detector against boxes that are there: what was found, and what of it is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.average_precision import average_precision
from graphopt.tasks.box_heads import Boxes
from graphopt.tasks.box_labels import FittedBoxes
from graphopt.tasks.matching import overlaps
from graphopt.tasks.scoring import Scoring

__all__ = ["BoxScoring"]

_NEAR = 0.5
_MOST_ROWS = 1000
"""Most boxes of a sample that count, those of the best scores."""


class BoxScoring(Scoring):
    """Boxes found, matched with those of the labels by class and an overlap of half or more.

    Args:
        fitted: The labels.
    """

    def __init__(self, fitted: FittedBoxes) -> None:
        self.fitted = fitted
        self.done = 0
        self.right = defaultdict[int, list[NDArray[np.bool_]]](list)
        self.scores = defaultdict[int, list[NDArray[np.float64]]](list)
        self.wanted = defaultdict[int, int](int)

    def add(self, answer: Mapping[str, Any], real: int) -> None:
        """Count one feed."""
        rows = 1 if self.fitted.head.apart else len(answer.get(self.fitted.output, ()))
        for found in self.fitted.found(answer, rows)[:real]:
            self._count(found, self.fitted.boxes[self.done])
            self.done += 1

    def _count(self, found: Boxes, wanted: Boxes) -> None:
        """Match the boxes of one sample, the best scores first."""
        if found.scores is not None:
            found = found[np.argsort(-found.scores, kind="stable")[:_MOST_ROWS]]
        found = found[:_MOST_ROWS]
        theirs, ours = found.classes, wanted.classes
        if theirs is None or ours is None:
            theirs = np.zeros(len(found.boxes), np.int64)
            ours = np.zeros(len(wanted.boxes), np.int64)
        for number in {*theirs.tolist(), *ours.tolist()}:
            mine, there = found[theirs == number], wanted[ours == number]
            self.wanted[number] += len(there.boxes)
            self.right[number].append(_right(mine.boxes, there.boxes))
            scores = np.zeros(len(mine.boxes)) if mine.scores is None else mine.scores
            self.scores[number].append(scores)

    def figures(self) -> dict[str, float]:
        """The figures by name; ``ap50`` is a mean over the classes that are there."""
        right = {number: np.concatenate(parts) for number, parts in self.right.items()}
        hits = sum(int(each.sum()) for each in right.values())
        found, wanted = sum(map(len, right.values())), sum(self.wanted.values())
        figures = {
            "precision": 100 * hits / found if found else 0.0,
            "recall": 100 * hits / wanted if wanted else float("nan"),
            "f1": 200 * hits / (found + wanted) if found + wanted else float("nan"),
        }
        if not self.fitted.ranked:
            return figures
        every = [
            average_precision(np.concatenate(self.scores[number]), right[number], count)
            for number, count in self.wanted.items()
            if count
        ]
        return {"ap50": 100 * float(np.mean(every)) if every else float("nan"), **figures}


def _right(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes found are right, in their order: each box that is there is found once."""
    right, left = np.zeros(len(found), bool), np.ones(len(wanted), bool)
    if not len(wanted) or not len(found):
        return right
    near = overlaps(found, wanted)
    for place, row in enumerate(near):
        best = int(np.where(left, row, -1.0).argmax())
        if left[best] and row[best] >= _NEAR:
            right[place], left[best] = True, False
    return right
