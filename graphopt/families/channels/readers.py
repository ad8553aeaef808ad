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
from graphopt.families.padding import RealRows
from graphopt.graph.node import attribute, is_op
from graphopt.numerics.elimination import Reader, refit
from graphopt.numerics.moments import Moments
from graphopt.rewrite.absorb import absorber, store
from graphopt.rewrite.values import set_values

__all__ = ["LayerRows", "channel_axis", "layer_rows", "readers_of"]

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
        sharers: All layers that read its weight, itself among them, which are solved together;
            None where others read it too, and it stays; empty where nobody else does.
    """

    layer: Layer
    weight: Floats
    bias: Floats
    rows: Moments
    sharers: tuple[LayerRows, ...] | None = ()

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
        """What a reader of one group goes by: centred, where the bias takes up the means.

        Summed over the layers that share the weight.
        """
        parts = [each._moments(block) for each in self.sharers or (self,)]
        return np.asarray(sum(parts[1:], parts[0]))

    def _moments(self, block: int) -> Floats:
        """The same of this layer alone."""
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

    def without(
        self, places: Collection[int], damping: float
    ) -> tuple[Floats | None, Floats | None]:
        """Weight and bias that make up for lost input channels; the weight is zero there.

        The weight is None where it stays for the sake of others, the bias where there is none that
        could make up.
        """
        stays = self.sharers is None
        weight, bias = self.weight.copy(), self.bias.copy()
        for block in range(self.blocks):
            lost = np.array(self.columns(places, block), np.intp)
            if not len(lost):
                continue
            before = self.matrix(block)
            if stays:
                after = before.copy()
                after[lost] = 0
            else:
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
        told = bias if self.takes_mean and not (stays and self.layer.alpha != 1) else None
        return None if stays else weight, told

    def put(self, layer: Layer, weight: Floats | None, bias: Floats | None) -> None:
        """Give the layer, or its twin in another graph, the weight and the bias ``without`` some.

        Args:
            layer: As ``absorber`` takes it.
            weight: See above; None to leave it as it is.
            bias: ``(out,)``; None to leave it as it is.
        """
        if weight is not None and layer.kind == "linear" and not layer.read_axes[0] % 2:
            weight = weight.T
        if weight is not None and self.sharers:  # for all of them, who get the same
            layer.weight.constant.set(layer.weight.stored(weight.astype(layer.weight.dtype)))
            weight = None
        if weight is None and bias is None:
            return
        store(layer, weight, bias)
        if is_op(layer.node, "MatMul") and bias is not None and layer.bias is not None:
            shape = layer.bias.constant.shape
            spread = bias if math.prod(shape) == 1 else bias.reshape(shape)
            set_values(layer.bias, spread.astype(layer.bias.dtype))


def layer_rows(
    layers: Iterable[Layer],
    shapes: Shapes,
    observe: Observe,
    rows: int,
    real: RealRows | None = None,
) -> dict[str, LayerRows]:
    """Layers with what they multiply, by the name of their output; all from one observation.

    Left out are those whose rows are not known or cannot be measured, such as values too large to
    be squared, and those whose weights are not plain floats. Of
    what reads the mean over all positions the rows are those before it, of which there are more.
    Rows of nothing but padding do not count where ``real`` knows them.
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
    requests = [asked for *_, asked in found.values()]
    moments = {} if real is None else real.moments(requests)
    others = [asked for asked in requests if asked not in moments]
    answers = observe(others)
    moments |= {asked: answers[asked] for asked in others if answers.failure(asked) is None}
    known = {
        name: LayerRows(layer, weight, bias, moments[asked])
        for name, (layer, weight, bias, asked) in found.items()
        if asked in moments
    }
    return {name: replace(each, sharers=_sharers(each, known)) for name, each in known.items()}


def _sharers(one: LayerRows, known: Mapping[str, LayerRows]) -> tuple[LayerRows, ...] | None:
    """See ``LayerRows``."""
    weight = one.layer.weight
    if weight.alone:
        return ()
    names = [use.node.output[0] if use.node.output else "" for use in weight.readers]
    found = [known[name] for name in names if name in known]
    if weight.given_out or len(found) < len(names) or not all(_alike(one, each) for each in found):
        return None
    return tuple(found)


def _alike(one: LayerRows, other: LayerRows) -> bool:
    """Whether two layers multiply what they read with their common weight in the same way."""
    first, second = one.layer, other.layer
    return (
        first.node.op_type == second.node.op_type
        and first.weight.constant.origin == second.weight.constant.origin
        and (first.weight.order, first.read_axes) == (second.weight.order, second.read_axes)
        and first.groups == second.groups
        and first.alpha == second.alpha == 1
        and one.rows.mean.shape == other.rows.mean.shape
    )


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
