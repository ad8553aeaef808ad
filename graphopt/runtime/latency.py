"""Times of models that ran side by side, on two clocks, and which of the clocks is believed.

Wall time is what people wait. Processor time of one thread does not hear what else the machine
does. Where they agree on how models stand to each other, wall time is told; where they do not, or
the wall's ratios scatter, the processor has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

__all__ = [
    "SAME",
    "Clock",
    "Ratio",
    "Readings",
    "Timed",
    "Times",
    "calmest",
    "joint",
    "moody",
    "ratio",
    "timed",
    "trusted",
    "unsteady",
]

Clock = Literal["wall", "processor", "graph", "table"]
"""What a ratio is of: wall time, processor time of one thread or, without any time taken, two
models of which onnxruntime makes the same graph, or the table of a target that is elsewhere."""

_PLACES = 0.03
"""Sessions of one and the same graph differ by so much (two standard deviations over 40 processes,
processor time): where a session's memory lies decides, and no number of bursts evens it out."""
_CLEAR = 1.15
"""What takes longer by more than that is slower wherever its session lies."""
_FEWEST = 5
"""Rounds that are kept of few ones."""
_WIDE = 0.1
"""A wall ratio that may be off by a tenth tells nothing that people would act on."""


@dataclass(frozen=True)
class Times:
    """Time of one run of a model, in milliseconds.

    Attributes:
        bursts_ms: Mean of each burst, in order; bursts of the same index ran side by side.
    """

    bursts_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The middle of the bursts."""
        return float(np.median(self.bursts_ms))

    @property
    def low_ms(self) -> float:
        """The 10th percentile of the bursts."""
        return float(np.percentile(self.bursts_ms, 10))

    @property
    def high_ms(self) -> float:
        """The 90th percentile of the bursts."""
        return float(np.percentile(self.bursts_ms, 90))

    def beside(self, base: Times) -> Times:
        """These times as if the machine had been all along as in the base's median burst.

        Their median stands to the base's as ``ratio`` says.
        """
        middle = base.median_ms
        return Times(tuple(middle * a / b for a, b in _pairs(self, base)))


@dataclass(frozen=True)
class Ratio:
    """How one model's time stands to another's.

    Attributes:
        median: Median of the ratios of paired bursts; below 1 is faster.
        spread: How far the median may be off. A difference below it is no difference.
        clock: What it is of.
    """

    median: float
    spread: float
    clock: Clock = "wall"

    @property
    def differs(self) -> bool:
        """Whether there is a difference at all."""
        return abs(self.median - 1) > self.spread

    @property
    def slower(self) -> bool:
        """Whether the model takes more time than the other one."""
        return self.differs and self.median > 1

    @property
    def doubtful(self) -> bool:
        """Whether it says slower by so little that other sessions may say otherwise."""
        return self.slower and self.median < _CLEAR


SAME = Ratio(1.0, 0.0, "graph")
"""Of two models of which onnxruntime makes the same graph: there is nothing to time."""


def joint(first: Ratio, again: Ratio) -> Ratio:
    """Two timings of the same models in sessions of their own as one; the steadier counts more.

    Each weighs by the inverse of its variance. Where they are further apart than their spreads
    say, the spread grows by that factor (Birge 1932, The Calculation of Errors by the Method of
    Least Squares): of two as steady as each other, one alone that says slower says nothing.

    >>> joint(Ratio(1.08, 0.03), Ratio(1.0, 0.03)).slower
    False
    """
    if not (first.spread and again.spread):
        return again if first.spread else first
    weights = np.array([first.spread, again.spread]) ** -2.0
    middle = float(np.average([first.median, again.median], weights=weights))
    beyond = abs(first.median - again.median) / float(np.hypot(first.spread, again.spread))
    return Ratio(middle, float(weights.sum() ** -0.5) * max(1.0, beyond), first.clock)


@dataclass(frozen=True)
class Readings:
    """The bursts of one model on both clocks."""

    wall: Times
    processor: Times

    @classmethod
    def of(cls, bursts: Sequence[tuple[float, float]]) -> Readings:
        """From milliseconds by wall and by processor, a pair each burst."""
        return cls(Times(tuple(w for w, _ in bursts)), Times(tuple(p for _, p in bursts)))

    def on(self, clock: Clock) -> Times:
        """The bursts on one clock."""
        return self.wall if clock == "wall" else self.processor


@dataclass(frozen=True)
class Timed:
    """What is told of a model: its times, and how they stand to the first model's.

    ``times`` are those of the calmest rounds on the clock of ``ratio``, and fit it: the median is
    the first model's times the ratio's.
    """

    times: Times
    ratio: Ratio

    def never_faster(self) -> Timed:
        """The same where the model cannot be faster than the first: what looks so is noise."""
        if self.ratio.median >= 1:
            return self
        return self.at(replace(self.ratio, median=1.0))

    def at(self, ratio: Ratio) -> Timed:
        """The same bursts at the level that another ratio to the first model gives them."""
        by = ratio.median / self.ratio.median
        return Timed(Times(tuple(ms * by for ms in self.times.bursts_ms)), ratio)


def ratio(times: Times, base: Times, clock: Clock = "wall") -> Ratio:
    """How ``times`` stands to ``base``, which were measured side by side.

    The spread is two standard errors of the median, together with what sessions of one graph
    differ by.

    Raises:
        ValueError: They have different numbers of bursts, so they were not.
    """
    middle = float(np.median([a / b for a, b in _pairs(times, base)]))
    return Ratio(middle, float(np.hypot(_scatter(times, base), _PLACES * middle)), clock)


def _scatter(times: Times, base: Times) -> float:
    """Two standard errors of the median ratio of paired bursts.

    It is the distance from the 10th to the 90th percentile over the square root of their number,
    as of a normal distribution.
    """
    paired = [a / b for a, b in _pairs(times, base)]
    low, high = np.percentile(paired, [10, 90])
    return float((high - low) / len(paired) ** 0.5)


def calmest(found: Sequence[Times]) -> list[Times]:
    """The half of the rounds in which the machine was calmest, of models that ran side by side.

    What others do in a core's other half slows integers and floats down unequally (by 44 and by
    22 %, seen with AVX-512), on the processor's clock too. It comes and goes in seconds, so that
    most measurements have calm rounds: those in which all models are nearest to their best. Of a
    model alone all rounds are kept.
    """
    if len(found) == 1:
        return list(found)
    times = np.array([each.bursts_ms for each in found])
    strain = (times / np.percentile(times, 10, axis=1, keepdims=True)).mean(axis=0)
    kept = np.sort(np.argsort(strain, kind="stable")[: max(_FEWEST, strain.size // 2)])
    return [Times(tuple(float(ms) for ms in row[kept])) for row in times]


def moody(found: Sequence[Times]) -> float:
    """How far the times of one model are apart at most: 90th over 10th percentile, less one."""
    return max(each.high_ms / each.low_ms - 1 for each in found)


def _pairs(times: Times, base: Times) -> Sequence[tuple[float, float]]:
    return list(zip(times.bursts_ms, base.bursts_ms, strict=True))


def trusted(found: Sequence[Readings]) -> Clock:
    """The clock to believe: the wall's where it is steady and agrees with the processor's.

    Args:
        found: Readings of models that ran side by side.
    """
    for wall, processor in zip(_ratios(found, "wall"), _ratios(found, "processor"), strict=True):
        apart = abs(wall.median - processor.median)
        if wall.spread > _WIDE * wall.median or apart > np.hypot(wall.spread, processor.spread):
            return "processor"
    return "wall"


def unsteady(found: Sequence[Readings], clock: Clock) -> float:
    """The largest scatter of the ratios to the first model, against the ratio."""
    base, *others = calmest([each.on(clock) for each in found])
    return max((_scatter(o, base) / ratio(o, base).median for o in others), default=0.0)


def timed(found: Sequence[Readings], clock: Clock | None = None) -> list[Timed]:
    """What is told of models that ran side by side, all by one clock.

    Args:
        found: Their readings.
        clock: The clock; None for the one to believe.
    """
    clock = trusted(found) if clock is None else clock
    base, *others = calmest([each.on(clock) for each in found])
    first = Timed(base, Ratio(1.0, 0.0, clock))
    return [first, *(Timed(each.beside(base), ratio(each, base, clock)) for each in others)]


def _ratios(found: Sequence[Readings], clock: Clock) -> list[Ratio]:
    return [each.ratio for each in timed(found, clock)[1:]]
