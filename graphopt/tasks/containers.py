"""Sequences, maps and optionals compared element by element."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.numerics.slices import AxisSums, axis_sums
from graphopt.numerics.sqnr import ErrorSums, decibels, finite_pair
from graphopt.observe.request import Rows
from graphopt.tasks.compare import Comparator, Sampling
from graphopt.tasks.quality import OutputQuality, WorstSlice
from graphopt.tasks.task import Task

__all__ = ["Elements"]

_MOST_PARTS = 4096
_LEAST_VALUES = 8
_ABSENT = object()


@dataclass(frozen=True)
class _Leaf:
    """One value inside, with its place and, in a map, its key: what has one kind of meaning."""

    place: str
    part: Any
    value: Any


class Elements(Comparator):
    """Sequences, maps and optionals: keys and lengths, equal values, numbers by their SQNR.

    What one side lacks and what is not equal counts as a share; numbers count by the key of
    their map or their place in the sequence.

    Args:
        task: What the output means.
        sampling: What the samples are like.
    """

    def __init__(self, task: Task, sampling: Sampling) -> None:
        self.task, self.sampling = task, sampling
        self.errors = ErrorSums()
        self.parts: dict[Any, AxisSums] = {}
        self.keyed = False
        self.same = self.places = self.finite = 0
        self.top_same = self.tops = 0
        self.samples = self.not_finite = 0
        self.worst: float | None = None
        self.fault = ""

    def add(self, right: Mapping[str, Any], answer: Mapping[str, Any], rows: Rows) -> None:
        """Count one feed; of a sequence with an element per sample only the real ones."""
        f, g = (_kept(each[self.task.output], rows) for each in (right, answer))
        ours = {leaf.place: leaf for leaf in _leaves(f)}
        theirs = {leaf.place: leaf for leaf in _leaves(g)}
        signal = noise = 0.0
        infinite = False
        for place in ours.keys() | theirs.keys():
            a, b = (_value(side.get(place)) for side in (ours, theirs))
            if not _alike(a, b):
                self.places += 1
            elif _is_float(a):
                pair = self._numbers(ours[place].part, a, b)
                signal, noise = signal + pair[0], noise + pair[1]
                infinite |= not np.isfinite(a).all()
            else:
                size = max(np.size(a), 1)
                self.places += size
                self.same += int(np.sum(np.asarray(a) == np.asarray(b)))
        if signal or noise:
            worst = float(decibels(signal, noise))
            self.worst = worst if self.worst is None else min(worst, self.worst)
        self.not_finite += infinite
        for a, b in zip(_maps(f), _maps(g), strict=False):
            self.tops += 1
            self.top_same += max(a, key=a.__getitem__) == max(b, key=b.__getitem__)
        self.samples += rows.real

    def _numbers(self, part: Any, a: Any, b: Any) -> tuple[float, float]:
        """Count two arrays of floats of one shape."""
        f, g, fits = finite_pair(a, b)
        if not fits:
            self.errors.fail()
            self.fault = self.fault or f"sample {self.samples}: NaN or infinity in one of the two"
        self.finite += int(np.count_nonzero(np.isfinite(a)))
        signal, noise = self.errors.add(f, g)
        if f.size and (part in self.parts or len(self.parts) < _MOST_PARTS):
            sums = axis_sums(f.reshape(1, -1), (f - g).reshape(1, -1), [0])[0]
            if part in self.parts:
                self.parts[part].join(sums)
            else:
                self.parts[part] = sums
        self.keyed |= not isinstance(part, int)
        return float(signal.sum()), float(noise.sum())

    def found(self) -> dict[str, OutputQuality]:
        """The figures so far."""
        return {self.task.output: self._quality()}

    def _quality(self) -> OutputQuality:
        kind = self.task.kind
        if self.places == 0 and self.finite == 0:
            return OutputQuality(kind, compared=False, reason="nothing in it on these samples")
        about, worst = self._by_part()
        return OutputQuality(
            kind,
            sqnr_db=self.errors.sqnr_db,
            about_mean_db=about,
            worst_slice=worst,
            worst_sample_db=self.worst,
            agreement=100 * self.top_same / self.tops if self.tops else self._equal(),
            error=None if self.places == 0 else 1 - self.same / self.places,
            not_finite=self.not_finite,
            fault=self.fault,
        )

    def _equal(self) -> float | None:
        return 100 * self.same / self.places if self.places else None

    def _by_part(self) -> tuple[float | None, WorstSlice | None]:
        """Numbers of maps about the mean of each key; of sequences the worst element."""
        told = {
            part: sums
            for part, sums in self.parts.items()
            if sums.count >= _LEAST_VALUES and sums.informative(self.task.rounding)[0]
        }
        if not told or self.errors.failed or not self.sampling.telling:
            return None, None
        if self.keyed:
            signal = sum(float(sums.spread[0]) for sums in told.values())
            noise = sum(float(sums.noise[0]) for sums in told.values())
            return float(decibels(signal, noise)), None
        ratios = {part: float(decibels(sums.spread, sums.noise)[0]) for part, sums in told.items()}
        worst = min(ratios, key=ratios.__getitem__)
        return None, WorstSlice(0, worst, ratios[worst])


def _kept(value: Any, rows: Rows) -> Any:
    if isinstance(value, list) and len(value) == rows.full:
        return value[: rows.real]
    return value


def _leaves(value: Any, place: str = "", part: Any = 0) -> Iterator[_Leaf]:
    """Everything inside that holds nothing else, in order."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{place}[{index}]", index)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{place}{{{key!r}}}", str(key))
    elif value is not None:
        yield _Leaf(place, part, value)


def _maps(value: Any) -> list[Mapping[Any, float]]:
    """The maps in it whose values are scores: floats, two or more."""
    each = value if isinstance(value, list) else [value]
    return [
        item
        for item in each
        if isinstance(item, Mapping) and len(item) > 1 and all(map(_is_float, item.values()))
    ]


def _value(leaf: _Leaf | None) -> Any:
    return _ABSENT if leaf is None else leaf.value


def _alike(a: Any, b: Any) -> bool:
    """Whether both are there, of one shape and both numbers or both not."""
    if a is _ABSENT or b is _ABSENT:
        return False
    return np.shape(a) == np.shape(b) and _is_float(a) == _is_float(b)


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or getattr(getattr(value, "dtype", None), "kind", "") == "f"
