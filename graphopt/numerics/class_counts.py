"""How well decisions agree with what is right, from counts that add up over samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClassCounts"]


@dataclass
class ClassCounts:
    """Counts of decisions, by class.

    A class that is nowhere right and nowhere said takes no part in a mean over classes.

    Attributes:
        right: Where a class was said and is right: ``(classes,)``.
        said: Where it was said.
        there: Where it is right.
        same: Decisions that are right.
        total: All decisions.

    >>> counts = ClassCounts.of(3)
    >>> counts.add(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
    >>> counts.accuracy, round(counts.f1, 3), round(counts.iou, 3)
    (0.75, 0.778, 0.667)
    """

    right: NDArray[np.int64]
    said: NDArray[np.int64]
    there: NDArray[np.int64]
    same: int = 0
    total: int = 0

    @classmethod
    def of(cls, classes: int) -> ClassCounts:
        """No counts yet."""
        right, said, there = np.zeros((3, classes), np.int64)
        return cls(right, said, there)

    def add(self, said: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """Count decisions between classes.

        Args:
            said: ``(decisions,)`` class numbers; a negative one is never right.
            labels: ``(decisions,)`` the right ones.
        """
        hit = said == labels
        most = len(self.right)
        self.right += np.bincount(labels[hit], minlength=most)
        self.said += np.bincount(said[said >= 0], minlength=most)
        self.there += np.bincount(labels, minlength=most)
        self._count(hit)

    def add_each(
        self,
        said: NDArray[np.int64],
        labels: NDArray[np.int64],
        counted: NDArray[np.bool_],
    ) -> None:
        """Count decisions of yes or no, each class for itself.

        Args:
            said: ``(decisions, classes)`` of 0 and 1; a negative one is never right.
            labels: The right ones.
            counted: Which of them count.
        """
        self.right += ((said == 1) & (labels == 1) & counted).sum(axis=0)
        self.said += ((said == 1) & counted).sum(axis=0)
        self.there += ((labels == 1) & counted).sum(axis=0)
        self._count((said == labels)[counted])

    def _count(self, hit: NDArray[np.bool_]) -> None:
        self.same += int(hit.sum())
        self.total += hit.size

    @property
    def accuracy(self) -> float:
        """Share of decisions that are right: 0 to 1; NaN without any."""
        return self.same / self.total if self.total else float("nan")

    @property
    def precision(self) -> float:
        """Mean over classes of right / said; 0 of a class that is never said."""
        return self._mean(self.right, self.said)

    @property
    def recall(self) -> float:
        """Mean over classes of right / there; 0 of a class that is never right."""
        return self._mean(self.right, self.there)

    @property
    def f1(self) -> float:
        """Mean over classes of 2 right / (said + there)."""
        return self._mean(2 * self.right, self.said + self.there)

    @property
    def iou(self) -> float:
        """Mean over classes of right / (said or there)."""
        return self._mean(self.right, self.said + self.there - self.right)

    def _mean(self, above: NDArray[np.int64], below: NDArray[np.int64]) -> float:
        seen = (self.said + self.there) > 0
        if not seen.any():
            return float("nan")
        return float((above[seen] / np.maximum(below[seen], 1)).mean())
