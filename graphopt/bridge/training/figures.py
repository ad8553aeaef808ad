"""What the held-out part is measured by: counts of batches that add up, and what they make."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["F1", "R2", "Alike", "Figure", "MeanRecall", "Share"]


class Figure(ABC):
    """A figure of all batches together; higher is better.

    Attributes:
        name: As tables show it.
        size: Number of counts.
    """

    name: str
    size: int

    @abstractmethod
    def counts(self, found: Tensor, wanted: Tensor, counted: Tensor | None = None) -> Tensor:
        """Those of one batch, which are added: ``(size,)``, float64.

        Args:
            found: What the model says.
            wanted: What it should say, of the same shape.
            counted: Which of them count; None for all.
        """

    @abstractmethod
    def value(self, counts: Sequence[float]) -> float:
        """The figure of the sums."""


@dataclass(frozen=True)
class Share(Figure):
    """Share of decisions that are as wanted, in percent."""

    name: str
    size: int = 2

    def counts(self, found: Tensor, wanted: Tensor, counted: Tensor | None = None) -> Tensor:
        """Decisions that are right, and all."""
        known = torch.ones_like(found, dtype=torch.bool) if counted is None else counted
        return _listed([((found == wanted) & known).sum(), known.sum()])

    def value(self, counts: Sequence[float]) -> float:
        """The figure of the sums."""
        right, total = counts
        return 100 * right / total if total else 0.0


@dataclass(frozen=True)
class MeanRecall(Figure):
    """Mean over classes of the share of their members that are said to be so, in percent.

    Attributes:
        classes: How many there are; those without a member do not count.
    """

    classes: int
    name: str = "balanced accuracy %"

    @property
    def size(self) -> int:  # type: ignore[override]  # read only
        """Two for each class."""
        return 2 * self.classes

    def counts(self, found: Tensor, wanted: Tensor, counted: Tensor | None = None) -> Tensor:
        """Of each class how often it is right, and how often it is there."""
        known = torch.ones_like(found, dtype=torch.bool) if counted is None else counted
        right, there = (
            torch.bincount(wanted[each].to(torch.int64), minlength=self.classes)
            for each in ((found == wanted) & known, known)
        )
        return torch.cat([right, there]).double().cpu()

    def value(self, counts: Sequence[float]) -> float:
        """The figure of the sums."""
        right, there = np.asarray(counts).reshape(2, -1)
        return float(100 * (right[there > 0] / there[there > 0]).mean()) if there.any() else 0.0


@dataclass(frozen=True)
class F1(Figure):
    """Mean over labels of the harmonic mean of precision and recall, in percent.

    Labels that nobody has and nobody is said to have do not count.

    Attributes:
        labels: How many there are, on the last axis.
    """

    labels: int
    name: str = "F1 %"

    @property
    def size(self) -> int:  # type: ignore[override]  # read only
        """Three for each label."""
        return 3 * self.labels

    def counts(self, found: Tensor, wanted: Tensor, counted: Tensor | None = None) -> Tensor:
        """Of each label how often it is right, said and there."""
        known = torch.ones_like(found, dtype=torch.bool) if counted is None else counted
        said, there = (each.bool() & known for each in (found, wanted))
        parts = [each.reshape(-1, self.labels).sum(0) for each in (said & there, said, there)]
        return torch.cat(parts).double()

    def value(self, counts: Sequence[float]) -> float:
        """The figure of the sums."""
        right, said, there = np.asarray(counts).reshape(3, -1)
        both = said + there
        return float(100 * (2 * right[both > 0] / both[both > 0]).mean()) if both.any() else 100.0


@dataclass(frozen=True)
class R2(Figure):
    """Share of the variance that is explained, mean over columns; columns that stay do not count.

    Attributes:
        columns: How many there are, on the last axis.
    """

    columns: int
    name: str = "R2"

    @property
    def size(self) -> int:  # type: ignore[override]  # read only
        """Four for each column."""
        return 4 * self.columns

    def counts(self, found: Tensor, wanted: Tensor, counted: Tensor | None = None) -> Tensor:
        """Of each column number, sum and squares of the values, and squares of the errors."""
        known = (torch.ones_like(wanted, dtype=torch.bool) if counted is None else counted).double()
        values = torch.nan_to_num(wanted.double()) * known
        errors = (found.double() - values) * known
        parts = [known, values, values.square(), errors.square()]
        return torch.cat([part.reshape(-1, self.columns).sum(0) for part in parts])

    def value(self, counts: Sequence[float]) -> float:
        """The figure of the sums."""
        number, total, squares, errors = np.asarray(counts).reshape(4, -1)
        spread = squares - total**2 / np.maximum(1, number)
        moving = spread > 1e-9 * np.maximum(squares, np.finfo(np.float64).tiny)
        return float((1 - errors[moving] / spread[moving]).mean()) if moving.any() else 0.0


@dataclass(frozen=True)
class Alike(Figure):
    """Mean cosine of vectors on the last axis."""

    name: str = "cosine"
    size: int = 2

    def counts(self, found: Tensor, wanted: Tensor, counted: Tensor | None = None) -> Tensor:  # noqa: ARG002 - all do
        """The sum of cosines, and their number."""
        cosines = functional.cosine_similarity(found.double(), wanted.double(), dim=-1)
        return _listed([cosines.sum(), torch.tensor(cosines.numel())])

    def value(self, counts: Sequence[float]) -> float:
        """The figure of the sums."""
        total, number = counts
        return total / number if number else 0.0


def _listed(counts: Sequence[Tensor]) -> Tensor:
    return torch.stack([each.double().cpu() for each in counts])
