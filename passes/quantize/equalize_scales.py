"""Pass ``equalize-scales``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channel_spans import Span, channel_spans
from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, ChannelAbsMax, Context, Option, Pass
from graphopt.contract.preconditions import CalibrationSamples, Unquantized, When
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.facts.layers import Layer
from graphopt.facts.select import select
from graphopt.families.chosen import Exclude, Nodes
from graphopt.families.equalization import AGREES_DB, agreement_db, usable_spans
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.numerics.equalization import equalizing, lowest_factors
from graphopt.rewrite.channel_scaling import (
    Side,
    divide_added,
    peaks,
    scale_bias,
    scale_side,
)

__all__ = ["EqualizeScales"]

Floats = NDArray[np.float64]
_FARTHEST = 1e3
"""Most that a channel is scaled by; codes of 8 bits never see what lies beyond."""
_NOTHING = 0.01
"""Share by which factors must differ from 1 to be worth an edit."""
_ROUNDS = 200
_SETTLED = 1e-4
"""Logarithm of a factor that changes nothing any more."""


@register("equalize-scales")
@dataclass(frozen=True, kw_only=True)
class EqualizeScales(Pass):
    """Even out the channels of weights between layers, so that one scale fits all of them.

        Conv(W1, b) -> Relu -> Conv(W2)      becomes

        Conv(W1 / s, b / s) -> Relu -> Conv(W2 * s)

    Exact in float arithmetic; it pays where weights are quantized with one scale for all channels,
    as ``quantize-static{per_channel=false}`` does, and many runtimes ask. s = sqrt(r1 / r2) of the
    largest weights of the channel on both sides, over all pairs until nothing moves. It goes
    through Relu, LeakyRelu, PRelu, pooling, padding with zeros, sums and views, into dense, grouped
    and depthwise convolutions, Gemm and MatMul; a residual sum has one set of factors for all that
    is added to it and all that reads it. ``ranges=activations`` evens out what the samples show the
    channels to reach, against the weights that read them, instead of the weights in front.

    Behind a Clip such as Relu6 only channels that stay below its bound on the samples are scaled,
    and none so far that it would reach it, with ``margin`` to spare; without samples none is. The
    scaled model must agree with what it was by more than 100 dB on the samples: if not, spans with
    a Clip are left, and then the pass is refused. Put it before quantize-static.

    Source: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias
    Correction, section 4.1.
    """

    ranges: Annotated[
        Literal["weights", "activations"],
        Option("what is made even with the weights behind: weights in front, or activations"),
    ] = "weights"
    margin: Annotated[
        float, Option("how much larger than on the samples a channel below a Clip may get", low=1)
    ] = 1.25
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    uses_samples: ClassVar[bool] = True
    may_grow: ClassVar[str] = "a number that is added to all channels becomes one for each"
    requires = (
        Unquantized(),
        CalibrationSamples(when=When("ranges", "activations")),
    )

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes(nothing="no two layers have channels between them that can be scaled")
        chosen = select(graph, self.nodes, self.exclude)
        spans = usable_spans(graph, context, changes, chosen, lambda span: _clipped(span, context))
        seen = _Seen(spans, context)
        for span in [span for span in spans if seen.failure(span)]:
            changes.skip(span.makers[0].node, seen.failure(span))
            spans.remove(span)
        for clips in (True, False):
            kept = [span for span in spans if clips or not span.bounds]
            trial = graph.copy()
            there = {span.key: span for span in channel_spans(trial, context.shapes)}
            factors = self._factors(kept, seen)
            edits = [_apply(there[s.key], each) for s, each in zip(kept, factors, strict=True)]
            level = agreement_db(context, graph, trial)
            if level is None or level >= AGREES_DB:
                break
        else:
            raise PassError(f"scaled, the model agrees with what it was by {level:.0f} dB alone")
        for span in spans:
            if span not in kept:
                changes.skip(span.makers[0].node, "a Clip behind it would cut other values")
        for span, what in zip(kept, edits, strict=True):
            if what:
                changes.edit(span.name, what)
        if changes:
            graph.become(trial)
        return changes

    def _factors(self, spans: Sequence[Span], seen: _Seen) -> list[Floats]:
        """Factors of the channels of each span."""
        weights = {id(each.node): peaks(each) for span in spans for each in _layers(span)}
        total = [np.ones(span.channels) for span in spans]
        bounds = [seen.bounds(span, self.margin) for span in spans]
        for _ in range(_ROUNDS):
            moved = 0.0
            for at, span in enumerate(spans):
                made = seen.activations(span) if self.ranges == "activations" else None
                made = _range(span.makers, weights, "out") if made is None else made / total[at]
                taken = _range(span.takers, weights, "in")
                low, high = bounds[at]
                step = equalizing(_share(made), taken, low / total[at], high / total[at])
                total[at] *= step
                moved = max(moved, float(np.abs(np.log(step)).max(initial=0.0)))
                _scale(span.makers, weights, "out", 1 / step)
                _scale(span.takers, weights, "in", step)
            if moved < _SETTLED:
                break
        return total

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example("cnn", before="fuse-batchnorm")
        return [
            plain,
            plain.but(ranges="activations"),
            plain.but(margin=1.5),
            plain.but(nodes=("Conv",)),
            plain.but(exclude=("Gemm",)),
        ]


def _layers(span: Span) -> list[Layer]:
    return [*span.makers, *span.takers]


def _clipped(span: Span, context: Context) -> str:
    """Why a span with a Clip is left without samples."""
    if not span.bounds or context.calibrated:
        return ""
    bound = span.bounds[0]
    return (
        f"{label(bound.node)} clips at {bound.high:g}; samples would tell which channels stay below"
    )


def _share(ranges: Floats) -> Floats:
    """Ranges as shares of the largest."""
    top = float(ranges.max(initial=0.0))
    return ranges / top if top > 0 else ranges


def _range(layers: Sequence[Layer], weights: Mapping[int, Floats], side: Side) -> Floats:
    """Range of each channel on one side of layers, as a share of the largest of each layer."""
    axis = 2 if side == "out" else 1
    ranges = [_share(weights[id(each.node)].max(axis=axis).ravel()) for each in layers]
    return np.asarray(np.max(ranges, axis=0))


def _scale(
    layers: Sequence[Layer], weights: Mapping[int, Floats], side: Side, factors: Floats
) -> None:
    for each in layers:
        held = weights[id(each.node)]
        groups = held.shape[0]
        shape = (groups, -1, 1) if side == "out" else (groups, 1, -1)
        held *= factors.reshape(shape)


class _Seen:
    """What the samples, or the biases, say of the channels of spans."""

    def __init__(self, spans: Sequence[Span], context: Context) -> None:
        names = {
            name: span.tensors[name]
            for span in spans
            for name in (*(each.data for each in span.takers), *(b.tensor for b in span.bounds))
        }
        self.axes = names
        asked = [ChannelAbsMax(name, axis) for name, axis in names.items()]
        self.answers = context.observe(asked) if context.calibrated and asked else None

    def failure(self, span: Span) -> str:
        """Why nothing can be said of a span; empty where it can."""
        for name in span.tensors:
            if self.answers is not None and name in self.axes:
                found = self.answers.failure(ChannelAbsMax(name, self.axes[name]))
                if found is not None:
                    return str(found)
        return ""

    def _peaks(self, name: str) -> Floats:
        assert self.answers is not None
        return self.answers[ChannelAbsMax(name, self.axes[name])].astype(np.float64)

    def activations(self, span: Span) -> Floats | None:
        """Largest absolute value of each channel, as its readers see it; None without samples."""
        if self.answers is None:
            return None
        return np.asarray(np.max([self._peaks(each.data) for each in span.takers], axis=0))

    def bounds(self, span: Span, margin: float) -> tuple[Floats, Floats]:
        """Smallest and largest factor of each channel.

        A channel may get as large as the largest is, but no larger: its activations or, without
        samples, what is added to it.
        """
        seen = self.activations(span)
        if seen is None:
            biases = [np.abs(each.bias.values().astype(np.float64)).ravel() for each in span.makers
                      if each.bias is not None and each.adds]  # fmt: skip
            seen = np.zeros(span.channels)
            for each in biases:
                seen = np.maximum(seen, each)
        low, high = np.maximum(_share(seen), 1 / _FARTHEST), np.full(span.channels, _FARTHEST)
        for bound in span.bounds:
            least, most = lowest_factors(self._peaks(bound.tensor), bound.high, margin)
            low, high = np.maximum(low, least), np.minimum(high, most)
        return np.minimum(low, high), high


def _apply(span: Span, factors: Floats) -> str:
    """Divide what makes the channels of a span and multiply what takes them; says what was done."""
    away = np.abs(factors - 1) > _NOTHING
    if not away.any():
        return ""
    for each in span.makers:
        scale_side(each, "out", 1 / factors)
        scale_bias(each, 1 / factors)
    for added in span.added:
        divide_added(span.makers[0].scope, added.node, added.index, added.axis, factors)
    for each in span.takers:
        scale_side(each, "in", factors)
    low, high = factors[away].min(), factors[away].max()
    return f"{away.sum()} of {factors.size} channels divided by {low:.3g} to {high:.3g}"
