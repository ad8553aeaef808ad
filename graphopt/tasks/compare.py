"""Answers set against those that are right, output by output, by what the output means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.graph.tensors import Array
from graphopt.numerics.fresh import FEW, least_sqnr_db
from graphopt.numerics.slices import AxisSums, axis_sums, least_slice
from graphopt.numerics.sqnr import ErrorSums, all_finite, decibels, finite_pair
from graphopt.observe.request import Rows
from graphopt.tasks.apart import as_probabilities, of_the_other
from graphopt.tasks.decisions import Decisions
from graphopt.tasks.quality import OutputQuality, WorstSlice
from graphopt.tasks.task import Task

__all__ = ["NOTHING", "Comparator", "Least", "Numbers", "Sampling", "is_numeric", "unlike"]

_NUMBERS = "fiub"  # kinds of numpy's types that can be subtracted
_MOST_SLICES = 4096
_LARGE = 1 << 20
"""Values of one feed from which on only the axis of the channels is looked at."""
_PICTURE = 4
"""Axes of pictures."""
_LEAST_VALUES = 8
"""Values of a slice below which its own mean says nothing."""
NOTHING = "no values on these samples"


@dataclass(frozen=True)
class Least:
    """What fresh samples give at least; None where that cannot be said, the share in percent."""

    sqnr_db: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Sampling:
    """What the samples and the model that is judged are like.

    Attributes:
        telling: Whether the samples say how far outputs vary; random feeds do not.
        clipped: Whether the ranges of the model are fixed.
    """

    telling: bool = True
    clipped: bool = False


class Comparator(ABC):
    """Sums over samples from which the closeness of one output follows, or of a set of them."""

    @abstractmethod
    def add(self, right: Mapping[str, Any], answer: Mapping[str, Any], rows: Rows) -> None:
        """Count what both models answer to one feed."""

    @abstractmethod
    def found(self) -> dict[str, OutputQuality]:
        """The figures so far, by output."""

    def least(self) -> dict[str, Least]:
        """What fresh samples give at least, by output; nothing where nothing can be said."""
        return {}


class Numbers(Comparator):
    """Numbers, scores of classes among them: SQNR of the whole, about means, and of each slice.

    Scores that the two models write in different forms are compared as probabilities.

    Args:
        task: What the output means.
        sampling: What the samples are like.
    """

    def __init__(self, task: Task, sampling: Sampling) -> None:
        self.sampling = sampling
        self.forms = None if task.other_form is None else (task, of_the_other(task))
        self.task = task if self.forms is None else replace(task, form="probabilities")
        self.errors, self.last, self.steps = ErrorSums(), ErrorSums(), 0
        self.slices: dict[int | None, AxisSums] = {}
        self.mixed: set[int | None] = set()
        self.decisions = Decisions(self.task)
        self.units: list[NDArray[np.float64]] = []
        self.samples = self.finite = self.not_finite = self.held = 0
        self.worst: float | None = None
        self.fault = ""

    def add(self, right: Mapping[str, Any], answer: Mapping[str, Any], rows: Rows) -> None:
        """Count one feed; of outputs with a row per sample only the real rows."""
        name = self.task.output
        f, g = right[name], answer[name]
        if isinstance(f, np.ndarray) and f.size and f.dtype.kind in _NUMBERS:
            if fault := unlike(f, g):
                self.fail(fault)
            else:
                apart = f.ndim > 0 and len(f) == rows.full
                f, g = self._in_one_form(rows.keep(f), rows.keep(g))
                self.count(f, g, rows.real if apart else 1, apart=apart)
        self.samples += rows.real

    def add_last(
        self, right: Mapping[str, Any], answer: Mapping[str, Any], rows: Rows, steps: int
    ) -> None:
        """Count what both models answer after some steps of feeding back their own states."""
        f, g = right[self.task.output], answer[self.task.output]
        if not is_numeric(f) or not f.size:
            return
        if fault := unlike(f, g):
            self.fault = self.fault or f"after {steps} steps of feeding back: {fault}"
            return
        self.steps = steps
        self.last.add(*self._in_one_form(rows.keep(f), rows.keep(g)))

    def _in_one_form(self, f: Array, g: Array) -> tuple[Array, Array]:
        """Two answers as they are, or both as probabilities where they are written otherwise."""
        if self.forms is None:
            return f, g
        first, second = (as_probabilities(*each) for each in zip((f, g), self.forms, strict=True))
        return first, second

    def fail(self, fault: str) -> None:
        """Count an answer that is none."""
        self.errors.fail()
        self.worst = float(decibels(0, 1))
        self.fault = self.fault or f"sample {self.samples}: {fault}"

    def count(self, f: Array, g: Array, samples: int, *, apart: bool) -> None:
        """Count two arrays of one shape; ``apart``: axis 0 is that of the ``samples``."""
        expected, actual, fits = finite_pair(f, g)
        signal, noise = self.errors.add(expected, actual, samples)
        worst = float(decibels(signal, noise).min())
        if not fits:
            self.fail(_not_finite(f, g))
        infinite = not all_finite(f)
        self.finite += int(np.count_nonzero(np.isfinite(f))) if infinite else f.size
        if infinite:
            each = np.isfinite(f).reshape(samples, -1).all(axis=1)
            self.not_finite += int((~each).sum())
        self.worst = worst if self.worst is None else min(worst, self.worst)
        keep = self.held < FEW
        self.held += samples
        if keep:
            self.units.append(np.stack([signal, noise]))
        if not infinite:
            self._cut(expected, expected - actual, apart=apart)
            self.decisions.add(f, g, samples, keep=keep)

    def _cut(self, f: NDArray[np.float64], error: NDArray[np.float64], *, apart: bool) -> None:
        """Sums along the axes; None is the key of the whole as one slice."""
        axes = [axis for axis in self._axes(f, apart=apart) if axis not in self.mixed]
        found: dict[int | None, AxisSums] = dict(axis_sums(f, error, axes).items())
        if found:
            found[None] = next(iter(found.values())).whole()
        else:
            found[None] = axis_sums(f.reshape(1, -1), error.reshape(1, -1), [0])[0]
        for axis, sums in found.items():
            so_far = self.slices.get(axis)
            if so_far is None:
                self.slices[axis] = sums
            elif len(so_far.mean) == len(sums.mean):
                so_far.join(sums)
            else:  # an axis of free size holds no channels
                self.mixed.add(axis)
                del self.slices[axis]

    def _axes(self, f: NDArray[np.float64], *, apart: bool) -> list[int]:
        own, last = self.task.axis, f.ndim - 1
        axes = set[int]() if own is None else {own}
        if self.task.kind not in ("classes", "multi-label", "embedding") and f.size <= _LARGE:
            axes.add(int(apart))
            if f.ndim < _PICTURE or f.shape[last] != f.shape[last - 1]:  # which are positions
                axes.add(last)
        return [n for n in sorted(axes) if apart <= n < f.ndim and f.shape[n] <= _MOST_SLICES]

    def found(self) -> dict[str, OutputQuality]:
        """The figures so far."""
        return {self.task.output: self.quality()}

    def quality(self) -> OutputQuality:
        """The figures so far."""
        kind = self.task.kind
        if self.fault:
            return OutputQuality(
                kind,
                sqnr_db=self.errors.sqnr_db,
                worst_sample_db=self.worst,
                not_finite=self.not_finite,
                fault=self.fault,
            )
        if self.errors.count == 0:
            return OutputQuality(kind, compared=False, reason=NOTHING)
        if self.finite == 0:
            return OutputQuality(
                kind,
                compared=False,
                not_finite=self.not_finite,
                reason="all that the model holds there is infinite or not a number",
            )
        return OutputQuality(
            kind,
            sqnr_db=self.errors.sqnr_db,
            about_mean_db=self._about_mean(),
            worst_slice=self._worst_slice(),
            worst_sample_db=self.worst,
            agreement=self.decisions.agreement,
            unusual=self.decisions.unusual,
            not_finite=self.not_finite,
            steps=self.steps,
            after_steps_db=self.last.sqnr_db,
        )

    def _about_mean(self) -> float | None:
        """All slices along the axis of the channels together, each about its own mean."""
        sums = self.slices.get(self.task.axis, self.slices.get(None))
        if sums is None or not self.sampling.telling or sums.count < _LEAST_VALUES:
            return None
        told = sums.informative(self.task.rounding)
        if not told.any():
            return None
        return float(decibels(sums.spread[told].sum(), sums.noise[told].sum()))

    def _worst_slice(self) -> WorstSlice | None:
        if self.task.kind in ("classes", "binary", "embedding"):
            return None
        worst: WorstSlice | None = None
        for axis, sums in self.slices.items():
            if axis is None or sums.count < _LEAST_VALUES:
                continue
            least = least_slice(sums, self.task.rounding, about_mean=self.sampling.telling)
            if least is not None and (worst is None or least[1] < worst.sqnr_db):
                worst = WorstSlice(axis, *least)
        return worst

    def least(self) -> dict[str, Least]:
        """What fresh samples give at least."""
        bound = None
        if not self.errors.failed and self.units:
            signal, noise = np.concatenate(self.units, axis=1)
            bound = least_sqnr_db(signal, noise, clipped=self.sampling.clipped)
        return {self.task.output: Least(bound, self.decisions.least())}


def is_numeric(value: Any) -> bool:
    """Whether a value is an array that can be subtracted from another."""
    return isinstance(value, np.ndarray) and value.dtype.kind in _NUMBERS


def unlike(f: Array, g: Any, *, numbers: bool = True) -> str:
    """What keeps an answer from being compared with the one that is right; else empty."""
    if not isinstance(g, np.ndarray) or (numbers and not is_numeric(g)):
        return "no numbers where the model before has some"
    if f.shape != g.shape:
        return f"shape {list(g.shape)} where the model before has {list(f.shape)}"
    return ""


def _not_finite(f: Array, g: Array) -> str:
    """Which values are not finite in one of the two only."""
    if (np.isnan(g) & ~np.isnan(f)).any():
        return "NaN where the model before has none"
    if (np.isfinite(f) & ~np.isfinite(g)).any():
        return "infinity where the model before has numbers"
    return "other values where the model before has NaN or infinity"
