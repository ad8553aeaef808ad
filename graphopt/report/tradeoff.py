"""What ``auto`` tried, as points: time against what each answer is worth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from graphopt.report.words import decibel, metric_value, percent, ratio
from graphopt.run.record import CandidateRecord, RunRecord

__all__ = ["Point", "Tradeoff", "tradeoffs"]

_EXACT_DB = 80.0  # float32 rounding; above it a point does not rise
_MARGIN = 0.08  # of an axis, so that no point lies on the edge
_LEAST = 3  # points that make a picture

Figure = Callable[[CandidateRecord], float | None]


@dataclass(frozen=True)
class Point:
    """A candidate: its number in the table, its place in percent of the picture, its words."""

    number: int
    x: float
    y: float
    chosen: bool
    text: str


@dataclass(frozen=True)
class Tradeoff:
    """Candidates by time and one figure of their answers.

    ``limit`` is the height of the user's limit, None without one; ``same`` is where what takes as
    long as the cleaned model lies. Heights count from the top, all in percent. ``better`` says
    which way is better.
    """

    title: str
    high: str
    low: str
    end: str
    same: float
    limit: float | None
    better: str
    points: list[Point]


def tradeoffs(record: RunRecord) -> list[Tradeoff]:
    """The task metric, SQNR or decisions against time, at most two of them.

    What fewer than three candidates have is left out; a figure with a limit comes before the other.
    """
    limits = {limit.name: limit.asked for limit in record.limits}
    drawn: list[Tradeoff | None] = []
    metric = None if record.quality is None else record.quality.metric
    if metric is not None:
        drop, sign = limits.get("max_drop"), -1 if metric.higher_is_better else 1
        floor = None if drop is None else metric.before + sign * drop
        drawn.append(
            _drawn(
                record,
                f"{metric.name}, of the original {metric_value(metric, metric.before)}",
                lambda item: item.metric,
                partial(metric_value, metric),
                floor,
                metric.higher_is_better,
            )
        )
    decisions = _drawn(
        record,
        "Same decisions",
        lambda item: item.agreement_top1,
        percent,
        limits.get("min_agreement"),
    )
    noise = _drawn(record, "SQNR", _noise, decibel, limits.get("min_sqnr_db"))
    drawn += [decisions, noise] if "min_agreement" in limits else [noise, decisions]
    return [each for each in drawn if each is not None][:2]


def _noise(item: CandidateRecord) -> float | None:
    return None if item.sqnr_db is None else min(item.sqnr_db, _EXACT_DB)


def _drawn(
    record: RunRecord,
    title: str,
    figure: Figure,
    words: Callable[[float], str],
    limit: float | None,
    higher: bool = True,
) -> Tradeoff | None:
    """A picture of one figure; None where too few candidates have it, or all have the same."""
    known = [
        (number, item, item.latency_ratio, value)
        for number, item in enumerate(record.candidates, 1)
        if item.latency_ratio is not None
        and (value := figure(item)) is not None
        and math.isfinite(value)
    ]
    if len(known) < _LEAST or len({value for *_, value in known}) == 1:
        return None
    shown = [value for *_, value in known] + ([] if limit is None else [limit])
    low, high = min(shown), max(shown)
    end = max(1.0, *(time for _, _, time, _ in known)) * (1 + _MARGIN)

    def height(value: float) -> float:
        share = (value - low) / (high - low)
        return round(100 * (1 - _MARGIN - (1 - 2 * _MARGIN) * share), 1)

    def place(time: float) -> float:
        return round(100 * time / end, 1)

    return Tradeoff(
        title=title,
        high=words(high),
        low=words(low),
        end=ratio(end),
        same=place(1.0),
        limit=None if limit is None else height(limit),
        better="up" if higher else "down",
        points=[
            Point(
                number,
                place(time),
                height(value),
                item.chosen,
                f"{number} {item.name}: {ratio(time)}, {words(value)}",
            )
            for number, item, time, value in known
        ],
    )
