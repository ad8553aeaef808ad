"""The course of a training: in figures for every form of report, as lines for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from graphopt.contract.curves import TrainingCurves
from graphopt.report.charts import HEIGHT
from graphopt.report.words import NONE

__all__ = ["WIDTH", "Course", "Line", "Mark", "Plot", "course", "plots"]

WIDTH = 1000
"""Width of a plot in the units of its paths."""
_LOGARITHMIC = 20.0  # from this ratio of the ends on, a linear axis would hide the last gains
_MARGIN = 0.06  # of the axis, so that no line runs along the edge

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Course:
    """A training in words.

    Attributes:
        steps: Optimizer steps that were taken, of those planned.
        samples: Samples trained on, and held out.
        loss: Of the held-out part, before and as kept.
        score: The same of the figure that ``metric`` names.
        metric: Empty where nothing but the loss was measured.
        kept: Which step's weights were kept.
        outcome: How it ended, or went on from an earlier run; empty for the ordinary course.
    """

    steps: str
    samples: str
    loss: str
    score: str
    metric: str
    kept: str
    outcome: str


def course(curves: TrainingCurves) -> Course:
    """The course of a training in words."""
    taken = max((step for step, _ in curves.loss), default=0) if curves.stopped else curves.steps
    told = [f"went on from step {curves.resumed}"] if curves.resumed else []
    if curves.stopped:
        told.append(f"ended early: {curves.stopped}")
    if not curves.best_step:
        told.append(curves.untrained)
    elif curves.kept_by:
        told.append(_decided(curves))
    return Course(
        steps=str(taken) if taken == curves.steps else f"{taken} of {curves.steps}",
        samples=f"{curves.samples} + {curves.held_out} held out",
        loss=_gain(curves.held_out_loss, curves.best_step, "{:.4g}"),
        score=_gain(curves.scores, curves.best_step, "{:.2f}"),
        metric=curves.metric,
        kept=f"step {curves.best_step}" if curves.best_step else "untrained",
        outcome="; ".join(filter(None, told)),
    )


def _decided(curves: TrainingCurves) -> str:
    """What decided which weights were kept."""
    if curves.kept_by == curves.metric:
        return f"kept by {curves.metric} of the held-out samples, within its noise by their loss"
    scores = dict(curves.scores)
    lower = scores.get(curves.best_step, 0.0) < scores.get(0, 0.0)
    return f"kept by the loss, although {curves.metric} is lower than before" if lower else ""


def _gain(points: Points, kept: int, form: str) -> str:
    """The value before, and that of the kept step."""
    values = dict(points)
    if 0 not in values or kept not in values:
        return NONE
    shown = dict.fromkeys(form.format(values[step]) for step in (0, kept))
    return " -> ".join(shown)


@dataclass(frozen=True)
class Line:
    """A line of a plot, as an SVG path, with a dot at each of its points."""

    name: str
    path: str
    dots: str


@dataclass(frozen=True)
class Mark:
    """What the pointer finds around one step: from ``x`` on, so wide, this text."""

    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Plot:
    """Figures over the steps of a training.

    ``kept`` is the place of the kept step; ``high`` and ``low`` are the ends of the upright axis,
    ``end`` is that of the other one, which begins at step 0.
    """

    title: str
    high: str
    low: str
    end: str
    lines: list[Line]
    kept: float
    marks: list[Mark]


def plots(curves: TrainingCurves) -> list[Plot]:
    """The losses and, where there is a score, that; what has fewer than two points is left out."""
    drawn = {
        "Loss": {"training": curves.loss, "held out": curves.held_out_loss},
        curves.metric or "score": {"held out": curves.scores},
    }
    found = []
    for title, series in drawn.items():
        known = {name: _finite(points) for name, points in series.items()}
        if any(len(points) > 1 for points in known.values()):
            found.append(_plot(title, known, curves))
    return found


def _finite(points: Points) -> Points:
    return [(step, value) for step, value in points if math.isfinite(value)]


def _plot(title: str, series: dict[str, Points], curves: TrainingCurves) -> Plot:
    values = [value for points in series.values() for _, value in points]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low > _LOGARITHMIC
    span = max(curves.steps, 1)

    def place(step: int, value: float) -> tuple[float, float]:
        ends = [math.log(each) if logarithmic else each for each in (low, value, high)]
        share = (ends[1] - ends[0]) / (ends[2] - ends[0]) if high > low else 0.5
        inner = _MARGIN + (1 - 2 * _MARGIN) * share
        return round(WIDTH * step / span, 1), round(HEIGHT * (1 - inner), 2)

    return Plot(
        title=f"{title}, logarithmic" if logarithmic else title,
        high=f"{high:.4g}",
        low=f"{low:.4g}",
        end=f"{span} steps",
        lines=[_line(name, [place(*point) for point in points]) for name, points in series.items()],
        kept=round(WIDTH * curves.best_step / span, 1),
        marks=_marks(series, span),
    )


def _line(name: str, places: Sequence[tuple[float, float]]) -> Line:
    path = "".join(f"{'L' if index else 'M'}{x} {y}" for index, (x, y) in enumerate(places))
    return Line(name, path, "".join(f"M{x} {y}h0" for x, y in places))


def _marks(series: dict[str, Points], span: int) -> list[Mark]:
    """One for each step that has a value, reaching half-way to its neighbours."""
    steps = sorted({step for points in series.values() for step, _ in points})
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(steps)), float(span)]
    found = []
    for step, left, right in zip(steps, edges[:-1], edges[1:], strict=True):
        said = [
            f"{name} {dict(points)[step]:.4g}"
            for name, points in series.items()
            if step in dict(points)
        ]
        x, width = WIDTH * left / span, WIDTH * (right - left) / span
        found.append(Mark(round(x, 1), round(width, 1), f"step {step}: {', '.join(said)}"))
    return found
