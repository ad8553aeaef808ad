"""How close one output is to what it should be, in the figures of its kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.numerics.sqnr import CAP_DB
from graphopt.tasks.task import TaskKind

__all__ = ["FoundRows", "OutputQuality", "WorstSlice", "share_db"]


_STATE_DB = 8.0
_SCATTER_DB = 8.0
"""What slices, and what deviates from means, look worse by though all is as good as the whole."""


@dataclass(frozen=True)
class WorstSlice:
    """The part of an output that is furthest off.

    Attributes:
        axis: Along which the output was cut, counted from the front.
        index: Of the slice.
        sqnr_db: Its deviation from its own mean against the noise in it, dB.
    """

    axis: int
    index: int
    sqnr_db: float


@dataclass(frozen=True)
class FoundRows:
    """Rows whose number depends on the data, matched with those that should be there.

    Attributes:
        expected: Rows of the model that is right, over all samples; of a list of the best ones
            those that a detector would show.
        actual: Rows that came instead.
        matched: Of those expected, the ones that came.
        right: Of those that came, the ones that are expected.
        by: What tells that two rows are the same one, in words.
        other_number: Lists with another number of rows.
        lists: Lists in all: one a sample, or one a batch.
        batched: Whether a list holds the rows of several samples, which are not told apart.
    """

    expected: int
    actual: int
    matched: int
    right: int
    by: str
    other_number: int
    lists: int
    batched: bool = False

    @property
    def precision(self) -> float:
        """Share of the rows that came which should, percent; 100 where none came."""
        return 100 * self.right / self.actual if self.actual else 100.0

    @property
    def recall(self) -> float:
        """Share of the rows that should come which did, percent; 100 where none should."""
        return 100 * self.matched / self.expected if self.expected else 100.0


@dataclass(frozen=True)
class OutputQuality:
    """Closeness of one output; figures that its kind does not have are None.

    Attributes:
        kind: What the output is.
        compared: Whether anything could be compared; what could not is no evidence.
        sqnr_db: Of the numbers in it as a whole, dB.
        about_mean_db: The same with the deviation from the mean of each class or column for the
            signal, so that a constant hides nothing.
        worst_slice: The slice that is furthest off, of numbers that may hold different things.
        worst_sample_db: SQNR of the worst sample, dB.
        agreement: Same decisions, percent: the largest class, the side of the threshold, the
            value of an index, text or mask.
        unusual: Of indices, texts, masks and yes-or-no scores that mostly have one value: how
            far the places agree that have another (F1), percent.
        rows: Of outputs with as many rows as the data has.
        steps: Of feeding states back; 0 where none is.
        after_steps_db: SQNR after these steps, each model with its own states, dB.
        error: Share of decisions or rows that differ, as it counts in the choice; None where
            numbers decide.
        not_finite: Samples in which the model that is right holds NaN or infinity itself.
        fault: The first answer that is no answer: which sample, and what is wrong; else empty.
        reason: Why nothing was compared; else empty.
    """

    kind: TaskKind
    compared: bool = True
    sqnr_db: float | None = None
    about_mean_db: float | None = None
    worst_slice: WorstSlice | None = None
    worst_sample_db: float | None = None
    agreement: float | None = None
    unusual: float | None = None
    rows: FoundRows | None = None
    steps: int = 0
    after_steps_db: float | None = None
    error: float | None = None
    not_finite: int = 0
    fault: str = ""
    reason: str = ""

    @property
    def numbers_db(self) -> float | None:
        """The least figure of its numbers, dB; None where it has none."""
        sliced = None if self.worst_slice is None else self.worst_slice.sqnr_db
        figures = (self.sqnr_db, self.about_mean_db, sliced, self.after_steps_db)
        return min((value for value in figures if value is not None), default=None)

    @property
    def allowance_db(self) -> float:
        """How much more is asked of it than of others: errors of a state go on and on, dB."""
        return _STATE_DB if self.kind == "state" else 0.0

    @property
    def close_db(self) -> float | None:
        """The same, but for what parts differ by anyhow: by this one choices weigh, dB."""
        figures = [self.sqnr_db, self.numbers_db]
        known = [v + n * _SCATTER_DB for n, v in enumerate(figures) if v is not None]
        return min(known) - self.allowance_db if known else None

    @property
    def decides_db(self) -> float | None:
        """The one figure that choices and floors go by; None without evidence.

        Shares count as if what differs were noise: 6 % are 12 dB.
        """
        if not self.compared:
            return None
        if self.fault:
            return -CAP_DB
        known = [] if self.error is None else [share_db(self.error)]
        if self.numbers_db is not None:
            known.append(self.numbers_db - self.allowance_db)
        return min(known, default=None)


def share_db(error: float) -> float:
    """A share of errors as a ratio of signal to noise, dB.

    >>> round(share_db(0.06), 1), share_db(0.0), share_db(1.0)
    (12.2, 300.0, 0.0)
    """
    return CAP_DB if error <= 0 else float(10 * np.log10(1 / min(error, 1.0)))
