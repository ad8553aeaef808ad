"""Why a result may agree badly with the reference: what can be told from samples and ranges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from graphopt.data.alike import alike
from graphopt.data.first import FirstSamples
from graphopt.data.samples import Samples
from graphopt.errors import GraphoptError
from graphopt.graph.graph import Graph
from graphopt.graph.node import is_op
from graphopt.observe.extremes import MinMax
from graphopt.observe.run import observe
from graphopt.run.means import Means
from graphopt.run.stage import Stage

__all__ = ["calibration_faults", "likely_causes"]

_SAMPLES = 32
_APART = 3.0
"""Widths of inputs that differ by this factor are of different scales, not of another draw."""
_BEYOND = 0.25
"""Share of its range by which a tensor lies beyond what was calibrated, to be named."""
_FEW = 8


@dataclass(frozen=True)
class _Span:
    """Smallest and largest value of an input over some samples."""

    low: float
    high: float

    @property
    def width(self) -> float:
        return max(abs(self.low), abs(self.high))

    def __str__(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g}"


def calibration_faults(means: Means) -> list[str]:
    """What is wrong with the calibration samples by themselves, a sentence each."""
    samples = means.calibration
    if samples is None or not alike(samples):
        return []
    return [
        f"all {samples.count} calibration samples are one and the same: ranges that follow from "
        "them fit that one alone"
    ]


def likely_causes(stage: Stage, means: Means) -> list[str]:
    """What could be the reason that a result with fixed ranges answers badly, the surest first.

    Args:
        stage: The result.
        means: Calibration samples, and those that judge.
    """
    judging = means.evaluation or means.held_out
    if means.calibration is None:
        return []
    found = calibration_faults(means)
    if not found and judging is not None:
        found += _scales(means.calibration, judging)
        found += [] if found else _overshoot(stage.graph, judging, means)
    if means.calibration.count < _FEW:
        found.append(f"{means.calibration.count} calibration samples are too few")
    return found


def _scales(calibration: Samples, judging: Samples) -> list[str]:
    """Inputs whose values are of another scale in the samples that judge."""
    before, after = _spans(calibration), _spans(judging)
    return [
        f"input {name!r} goes from {before[name]} in the calibration samples and from {span} in "
        "those that judge: they are not scaled alike"
        for name, span in after.items()
        if name in before and _differ(before[name], span)
    ]


def _differ(a: _Span, b: _Span) -> bool:
    wide, narrow = max(a.width, b.width), min(a.width, b.width)
    return wide > _APART * narrow


def _spans(samples: Samples) -> dict[str, _Span]:
    """Of each input of floats, or of whole numbers, over the first samples."""
    spans: dict[str, _Span] = {}
    for feeds, _ in samples.feeds(limit=_SAMPLES):
        for name, values in feeds.items():
            if values.dtype.kind not in "fiu" or not values.size:
                continue
            low, high = float(values.min()), float(values.max())
            known = spans.get(name, _Span(low, high))
            spans[name] = _Span(min(low, known.low), max(high, known.high))
    return spans


def _overshoot(graph: Graph, judging: Samples, means: Means) -> list[str]:
    """The tensor that lies furthest beyond the range that was fixed for it."""
    ranges = dict(_ranges(graph))
    if not ranges:
        return []

    try:
        seen = observe(
            graph,
            [MinMax(name) for name in ranges],
            FirstSamples(judging, _SAMPLES),
            memory_limit=means.machine.memory_limit,
            threads=means.threads,
        )
    except GraphoptError:  # what cannot be observed says nothing
        return []
    beyond = {request.tensor: _by(ranges[request.tensor], span) for request, span in seen.items()}
    worst = max(beyond, key=lambda name: beyond[name])
    if beyond[worst] < _BEYOND:
        return []
    low, high = seen[MinMax(worst)]
    return [
        f"{worst!r} goes from {low:.4g} to {high:.4g} in the samples that judge, where calibration "
        f"fixed {ranges[worst]}: what lies beyond is clipped"
    ]


def _by(span: _Span, seen: tuple[float, float]) -> float:
    """How far values lie beyond a range, as a share of its width."""
    width = max(span.high - span.low, float(np.finfo(np.float32).tiny))
    return max(span.low - seen[0], seen[1] - span.high) / width


def _ranges(graph: Graph) -> Iterable[tuple[str, _Span]]:
    """Each activation of the main graph that is quantized with constant scale, and its range."""
    for node in graph.main.nodes:
        if is_op(node, "QuantizeLinear") and graph.main.constant(node.input[0]) is None:
            span = _range(graph, node)
            if span is not None:
                yield node.input[0], span


def _range(graph: Graph, node: NodeProto) -> _Span | None:
    scale = graph.main.constant(node.input[1])
    zero = graph.main.constant(node.input[2]) if len(node.input) > 2 else None
    if scale is None or scale.shape not in ((), (1,)) or zero is None:
        return None
    dtype = zero.values.dtype
    if dtype.kind not in "iu":  # codes of 4 bits, and of floats
        return None
    step, offset = float(scale.values.reshape(-1)[0]), int(zero.values.reshape(-1)[0])
    info = np.iinfo(dtype)
    return _Span(step * (int(info.min) - offset), step * (int(info.max) - offset))
