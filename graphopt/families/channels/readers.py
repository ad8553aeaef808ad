"""The layers that read groups of channels, with what samples say of what they read."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGroup
from graphopt.analysis.downstream import unpooled
from graphopt.contract.passes import Observe, RowMoments
from graphopt.facts.layers import Layer, Refusal
from graphopt.facts.shapes import Shapes
from graphopt.families.channels.unsolved import Energies, kept_reader
from graphopt.graph.node import attribute, is_op
from graphopt.numerics.elimination import Reader, refit
from graphopt.numerics.moments import Moments
from graphopt.rewrite.absorb import absorber, store
from graphopt.rewrite.values import set_values

__all__ = ["LayerRows", "channel_axis", "layer_rows", "readers_of", "set_layer"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LayerRows:
    """A layer with what it multiplies.

    Attributes:
        layer: A Conv, MatMul or Gemm; or a ConvTranspose, which multiplies what a group reads at
            each position with a matrix ``(in / groups, out / groups * kernel)``.
        weight: ``(out, in / groups, *kernel)`` of a Conv, ``(in, out / groups, *kernel)`` of a
            ConvTranspose, else ``(in, out)``.
        bias: ``(out,)``, zero where it adds none.
        rows: Moments of what it reads: for each group of a Conv; of all of a ConvTranspose.
    """

    layer: Layer
    weight: Floats
    bias: Floats
    rows: Moments

    @property
    def taps(self) -> int:
        """Columns of the rows that one input channel has."""
        return 1 if self.spreads else math.prod(self.weight.shape[2:])

    @property
    def spreads(self) -> bool:
        """Whether it is a ConvTranspose."""
        return is_op(self.layer.node, "ConvTranspose")

    @property
    def takes_mean(self) -> bool:
        """Whether it has, or can get, a bias."""
        return self.layer.bias_place is not None

    @property
    def bare(self) -> bool:
        """Whether it adds no bias so far."""
        return self.layer.bias is None

    @property
    def blocks(self) -> int:
        """Groups, each of which reads rows of its own."""
        return self.layer.groups

    def mean(self, block: int) -> Floats:
        """Of the rows of one group: ``(columns,)``."""
        if self.spreads:
            return np.asarray(self.rows.mean[0, self._held(block)])
        return np.asarray(self.rows.mean[block])

    def moments(self, block: int) -> Floats:
        """What a reader of one group goes by: centred, where the bias takes up the means."""
        if self.spreads:
            held = self._held(block)
            centred: Floats = self.rows.covariance[0, held, held]
        else:
            centred = self.rows.covariance[block]
        mean = self.mean(block)
        return centred if self.takes_mean else centred + np.outer(mean, mean)

    def _held(self, block: int) -> slice:
        """The inputs of one group of a ConvTranspose."""
        width = len(self.weight) // self.blocks
        return slice(block * width, (block + 1) * width)

    def matrix(self, block: int) -> Floats:
        """The weight of one group as ``(columns, out)``."""
        if self.layer.kind == "linear":
            return self.weight.reshape(len(self.weight), -1)
        if self.spreads:
            part = self.weight[self._held(block)]
            return part.reshape(len(part), -1)
        outs = len(self.weight) // self.layer.groups
        part = self.weight[block * outs : (block + 1) * outs]
        return part.reshape(outs, -1).T

    def columns(self, places: Iterable[int], block: int) -> list[int]:
        """Which columns of a group's rows input channels hold."""
        width = len(self.mean(block)) // self.taps
        held = [place - block * width for place in places if place // width == block]
        return [place * self.taps + tap for place in held for tap in range(self.taps)]

    def without(self, places: Collection[int], damping: float) -> tuple[Floats, Floats | None]:
        """Weight and bias that make up for lost input channels; the weight is zero there.

        The bias is None where there is none that could.
        """
        weight, bias = self.weight.copy(), self.bias.copy()
        for block in range(self.blocks):
            lost = np.array(self.columns(places, block), np.intp)
            if not len(lost):
                continue
            before = self.matrix(block)
            after = refit(self.moments(block), before, lost, damping)
            lost_means = self.mean(block) @ (before - after)
            if self.spreads:
                held, outs = self._held(block), len(bias) // self.blocks
                weight[held] = after.reshape(weight[held].shape)
                strides = math.prod(attribute(self.layer.node, "strides", []))
                here = slice(block * outs, (block + 1) * outs)
                bias[here] += lost_means.reshape(outs, -1).sum(axis=1) / strides
                continue
            outs = after.shape[1]
            here = slice(block * outs, (block + 1) * outs)
            bias[here] += lost_means
            if self.layer.kind == "linear":
                weight = after
            else:
                weight[here] = after.T.reshape(outs, *weight.shape[1:])
        return weight, bias if self.takes_mean else None


def layer_rows(
    layers: Iterable[Layer], shapes: Shapes, observe: Observe, rows: int
) -> dict[str, LayerRows]:
    """Layers with what they multiply, by the name of their output; all from one observation.

    Left out are those whose rows are not known, and those whose weights are not plain floats. Of
    what reads the mean over all positions the rows are those before it, of which there are more.
    """
    found: dict[str, tuple[Layer, Floats, Floats, RowMoments]] = {}
    for layer in layers:
        effective = absorber(layer.scope, layer.node)
        request = RowMoments.of(layer)
        if is_op(layer.node, "ConvTranspose"):
            request = RowMoments(layer.data, 1)
        if isinstance(effective, Refusal) or isinstance(request, Refusal):
            continue
        if (info := shapes.get(layer.data)) is None or info.shape is None:
            continue
        one, weight, bias = effective
        if one.kind == "linear" and not one.read_axes[0] % 2:
            weight = weight.T
        asked = replace(request, most=rows)
        if (before := unpooled(layer, shapes)) is not None:
            asked = RowMoments(before[0], before[1], most=rows)
        found[layer.node.output[0]] = one, weight, bias, asked
    answers = observe(asked for *_, asked in found.values())
    return {
        name: LayerRows(layer, weight, bias, answers[asked])
        for name, (layer, weight, bias, asked) in found.items()
    }


def readers_of(
    group: ChannelGroup,
    known: Mapping[str, LayerRows],
    shapes: Shapes,
    energies: Energies = MappingProxyType({}),
) -> list[Reader]:
    """The readers of a group: those that are solved anew by rows, others as they are."""
    readers = []
    for layer in group.consumers:
        one = known.get(layer.node.output[0])
        if one is None:
            readers.append(kept_reader(group, layer, energies))
            continue
        units = group.positions[layer.data, channel_axis(layer, shapes)]
        for block in range(one.blocks):
            columns = [one.columns(places, block) for places in units]
            most = max(map(len, columns), default=0)
            if most:
                table = np.full((len(columns), most), -1, np.intp)
                for row, held in zip(table, columns, strict=True):
                    row[: len(held)] = held
                readers.append(Reader(one.moments(block), one.matrix(block), table))
    return readers


def channel_axis(layer: Layer, shapes: Shapes) -> int:
    """The axis of the input channels in what a layer reads, counted from the front."""
    if layer.kind == "conv":
        return 1
    request = RowMoments.of(layer)
    info = shapes.get(layer.data)
    assert isinstance(request, RowMoments) and info is not None and info.shape is not None
    return request.axis % len(info.shape)


def set_layer(layer: Layer, weight: Floats, bias: Floats | None) -> None:
    """Give a layer the weight and the bias that it is really to apply.

    Args:
        layer: As ``absorber`` takes it.
        weight: See ``LayerRows``.
        bias: ``(out,)``; None to leave it as it is.
    """
    if layer.kind == "linear" and not layer.read_axes[0] % 2:
        weight = weight.T
    store(layer, weight, bias)
    if is_op(layer.node, "MatMul") and bias is not None and layer.bias is not None:
        shape = layer.bias.constant.shape
        spread = bias if math.prod(shape) == 1 else bias.reshape(shape)
        set_values(layer.bias, spread.astype(layer.bias.dtype))
