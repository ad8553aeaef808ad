"""The pass ``smooth-activations``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from graphopt.contract.examples import Example
from graphopt.contract.passes import (
    Changes,
    ChannelAbsMax,
    Context,
    MeanSquare,
    MinMax,
    Option,
    Pass,
)
from graphopt.contract.preconditions import CalibrationSamples
from graphopt.contract.registry import register
from graphopt.facts.layers import Layer
from graphopt.families.chosen import Exclude, MinSize, Nodes
from graphopt.families.linear_readers import linear_readers
from graphopt.graph.graph import Graph, Scope
from graphopt.numerics.smoothing import Activation, Smoothing, smooth
from graphopt.rewrite.scaling import fold_division, insert_division

__all__ = ["SmoothActivations"]

_LAST = -1
_FREE_GAIN_DB = 1.0  # from here on factors are folded in where that costs nothing
_LEAST_GAIN_DB = 0.01  # less is rounding: no channel stands out


@register("smooth-activations")
@dataclass(frozen=True, kw_only=True)
class SmoothActivations(Pass):
    """Even out the channels of activations, so that int8 wastes no codes on a few large ones.

        LayerNormalization(scale, bias) -> MatMul(W)      becomes

        LayerNormalization(scale / s, bias / s) -> MatMul(s * W)

    Exact in float arithmetic; it pays once the layers are quantized. Transformers have channels
    ten times as large as the rest, and one scale for the whole tensor leaves the rest few codes.
    Dividing a channel by s moves its size into a row of the weight, which is quantized by output
    channel and bears it better. The factors are those of least expected error, from the range and
    the mean square of each channel on the calibration samples. They go into a layer or RMS
    normalization, a linear layer, or through the product of a gated unit into the linear layer of
    its other branch. Where the tensor has other readers, such as a residual branch, or no constants
    to fold into, a Mul is put in front of the layers if they gain enough by it. Put it before
    quantize-dynamic or quantize-static.

    Source: Xiao et al. 2023, SmoothQuant: Accurate and Efficient Post-Training Quantization for
    Large Language Models.
    """

    min_gain: Annotated[
        float,
        Option("expected gain from which on a Mul is put in front of layers", low=0, unit="dB"),
    ] = 6.0
    min_size: MinSize = 1024
    nodes: Nodes = ()
    exclude: Exclude = ()
    may_grow: ClassVar[str] = "it may add a factor for each channel"
    requires = (CalibrationSamples(),)

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        groups = self._groups(graph, changes)
        for tensor, activation in _observe(list(groups), context).items():
            group = groups[tensor]
            weight = np.concatenate([layer.matrix() for layer in group], axis=1)
            if not np.isfinite(weight).all():
                _skip(changes, group, "a weight holds NaN or infinity")
                continue
            found = smooth(activation, weight)
            where = self._divide(graph.main, tensor, group, found)
            if not where:
                reason = f"would gain {found.gain_db:.1f} dB, min_gain is {self.min_gain:g}"
                _skip(changes, group, reason)
                continue
            for layer in {layer.weight.constant.origin: layer for layer in group}.values():
                layer.scale("in", found.factors)
            count = int((found.factors > 1).sum())
            for layer in group:
                changes.edit(
                    layer.node,
                    f"{count} of {len(found.factors)} channels of {tensor} divided {where}; "
                    f"expected SQNR {found.before_db:.1f} -> {found.after_db:.1f} dB",
                )
        return changes

    def _divide(self, scope: Scope, tensor: str, group: list[Layer], found: Smoothing) -> str:
        """Divide the tensor where it pays; how that was done, empty where it was not."""
        nodes = [layer.node for layer in group]
        free = found.gain_db >= max(min(_FREE_GAIN_DB, self.min_gain), _LEAST_GAIN_DB)
        if free and fold_division(scope, tensor, found.factors, nodes):
            return "in the layer before"
        if found.gain_db < max(self.min_gain, _LEAST_GAIN_DB):
            return ""
        insert_division(scope, tensor, found.factors, nodes)
        return "by a Mul in front"

    def _groups(self, graph: Graph, changes: Changes) -> dict[str, list[Layer]]:
        """The layers that can be smoothed, by the tensor that they read."""
        groups = linear_readers(graph, self.nodes, self.exclude, self.min_size, changes)
        return {tensor: group for tensor, group in groups.items() if _movable(group, changes)}

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example("outliers")
        return [
            plain,
            plain.but(min_gain=0.0, min_size=0),
            plain.but(nodes=("matmul_1",)),
            plain.but(exclude=("matmul_1",)),
        ]


def _skip(changes: Changes, group: list[Layer], reason: str) -> None:
    for layer in group:
        changes.skip(layer.node, reason)


def _movable(group: list[Layer], changes: Changes) -> bool:
    """Whether all weights of a group may be multiplied."""
    nodes = [layer.node for layer in group]
    for layer in group:
        if not layer.owned_by(nodes):
            _skip(changes, group, "its weight is read elsewhere too")
            return False
    return True


def _observe(tensors: list[str], context: Context) -> dict[str, Activation]:
    """What the samples say about each tensor."""
    extents = [MinMax(tensor) for tensor in tensors]
    peaks = [ChannelAbsMax(tensor, _LAST) for tensor in tensors]
    powers = [MeanSquare(tensor, _LAST) for tensor in tensors]
    answers = context.observe([*extents, *peaks, *powers])
    activations = {}
    for extent, peak, power in zip(extents, peaks, powers, strict=True):
        wide = answers[peak].astype(np.float64)
        activations[extent.tensor] = Activation(*answers[extent], wide, answers[power])
    return activations
