"""What can be solved for anew: the weight of a layer, a bias alone, a BatchNormalization."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.analysis.downstream import result_of
from graphopt.contract.passes import SampledRows
from graphopt.facts.layers import Layer, Refusal, layers_of
from graphopt.families.refitting.blocks import blocks_of, from_blocks
from graphopt.families.refitting.normalization import Normalization, normalization
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op
from graphopt.rewrite.absorb import absorber, store
from graphopt.rewrite.biases import has_bias, shift_bias
from graphopt.rewrite.edit import only_reader
from graphopt.rewrite.integer_layers import bias_step, shift_quantized_bias
from graphopt.rewrite.values import set_values

__all__ = [
    "Solvable",
    "SolvableLayer",
    "refit_refusal",
    "solvable_at",
    "solvable_layer",
    "solvables",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solvable(ABC):
    """Something linear in a graph that can be given other values.

    Attributes:
        scope: Where it is.
        node: Its node.
        result: The tensor that it gives.
        axis: Of the channels in the result.
        groups: That each read channels of their own.
        channels: Of the result, those of all groups together.
        width: Values in a row of what all groups read.
        biased: Whether it adds something a channel that can have other values.
        takes_bias: Whether it does, or would if it were given a bias.
        how: What is to be said before what came of it.
    """

    scope: Scope
    node: NodeProto
    result: str
    axis: int
    groups: int
    channels: int
    width: int
    biased: bool
    takes_bias: bool
    how: str

    @abstractmethod
    def request(self) -> SampledRows | None:
        """What it reads; None where that does not count."""

    @abstractmethod
    def values(self) -> tuple[Floats, Floats] | Refusal:
        """Weight ``(groups, width, out)`` and bias ``(groups, out)``, zero without one."""

    @abstractmethod
    def store(self, weight: Floats, bias: Floats | None) -> Refusal | None:
        """Give it others; a bias of None stays as it is."""


@dataclass(frozen=True, eq=False)
class SolvableLayer(Solvable):
    """A layer that ``refit_refusal`` has nothing against.

    Attributes:
        layer: The layer.
        norm: What takes up its bias, as it has none of its own.
    """

    layer: Layer
    norm: Normalization | None

    def request(self) -> SampledRows:
        """What each result is a sum of."""
        found = SampledRows.summed(self.layer)
        assert isinstance(found, SampledRows)
        return found

    def values(self) -> tuple[Floats, Floats] | Refusal:
        """Weight and bias as the layer really applies them."""
        found = absorber(self.scope, self.node)
        if isinstance(found, Refusal):
            return found
        return blocks_of(self.layer, found[1]), found[2].reshape(self.groups, -1)

    def store(self, weight: Floats, bias: Floats | None) -> Refusal | None:
        """Store both in the type that they have; nothing that it does not hold."""
        one, values = self.layer, from_blocks(self.layer, weight)
        flat = None if bias is None else bias.reshape(-1)
        if self.norm is not None:
            told = store(one, values, None)
            if isinstance(told, Refusal) or flat is None:
                return told if isinstance(told, Refusal) else None
            return self.norm.take_up(flat)
        told = store(one, values, flat)
        if isinstance(told, Refusal):
            return told
        if flat is not None and one.bias is not None and one.bias.node is not one.node:
            set_values(one.bias, flat.astype(one.bias.dtype))
        return None


@dataclass(frozen=True, eq=False)
class _SolvableBias(Solvable):
    """The bias of a layer whose weight stays as it is: what is solved for is added to it.

    Attributes:
        layer: The layer.
        step: That of the grid of int32 of its bias; None where that is floats.
        norm: What takes it up, where the layer has none of its own.
    """

    layer: Layer
    step: NDArray[np.float32] | None
    norm: Normalization | None

    def request(self) -> None:
        return None

    def values(self) -> tuple[Floats, Floats]:
        return np.zeros((1, 0, self.channels)), np.zeros((1, self.channels))

    def store(self, weight: Floats, bias: Floats | None) -> Refusal | None:
        assert bias is not None and not weight.size
        one, shift = self.layer, bias[0]
        if self.step is not None:
            shift_quantized_bias(one, self.step, shift)
        elif one.bias is not None:
            shift_bias(one, shift)
        elif self.norm is not None:
            return self.norm.take_up(shift)
        else:
            values = shift.astype(one.weight.values().dtype)
            name = one.scope.add_constant(f"{one.weight.constant.origin}_bias", values)
            one.scope.set_input(one.node, 2, name)
        return None


@dataclass(frozen=True, eq=False)
class _SolvableNorm(Solvable):
    """A BatchNormalization: of each channel a layer with a single weight.

    Attributes:
        norm: What it does.
    """

    norm: Normalization

    def request(self) -> SampledRows:
        return SampledRows(self.node.input[0], axis=1)

    def values(self) -> tuple[Floats, Floats]:
        return self.norm.factor[:, None, None], self.norm.shift[:, None]

    def store(self, weight: Floats, bias: Floats | None) -> Refusal | None:
        assert bias is not None
        return self.norm.set(weight[:, 0, 0], bias[:, 0])


def refit_refusal(one: Layer) -> Refusal | None:
    """Why the weight of a layer cannot be solved for again; None where it can."""
    needs = ("right", "matrix") if one.kind == "linear" else ()
    if refusal := one.refusal("float", "fixed", *needs):
        return refusal
    if isinstance(request := SampledRows.summed(one), Refusal):
        return request
    if refusal := one.refusal("finite", "bias"):
        return refusal
    return None if one.weight.alone else Refusal(one.node, "its weight is shared with others")


def solvable_layer(one: Layer) -> SolvableLayer:
    """What a layer is that has a weight to be solved for."""
    norm = _takes_up(one)
    weight = math.prod(one.weight.constant.shape)
    return SolvableLayer(
        one.scope,
        one.node,
        result_of(one),
        one.result_axis,
        one.groups,
        one.channels,
        width=weight // one.channels * one.groups,
        biased=one.bias is not None or norm is not None,
        takes_bias=one.bias_place is not None or norm is not None,
        how="",
        layer=one,
        norm=norm,
    )


def _behind(one: Layer) -> NodeProto | None:
    """The BatchNormalization that alone reads what a layer gives."""
    use = only_reader(one.scope, result_of(one))
    norm = use is not None and use.scope is one.scope and is_op(use.node, "BatchNormalization")
    return use.node if use is not None and norm else None


def _takes_up(one: Layer) -> Normalization | None:
    """What takes up the bias of a layer that has none of its own."""
    behind = _behind(one) if one.bias is None and not one.adds else None
    found = None if behind is None else normalization(one.scope, behind)
    return found if isinstance(found, Normalization) else None


def _solvable_bias(one: Layer, refusal: Refusal) -> Solvable | None:
    """The bias of a layer alone, where that can be solved for; else None."""
    if one.weight.order is None or one.weight.index != 1:
        return None
    step, norm = bias_step(one), _takes_up(one)
    added = step is not None or (one.bias is None and not one.adds)
    if not (has_bias(one) or norm is not None or (added and one.bias_place is not None)):
        return None
    return _SolvableBias(
        one.scope,
        one.node,
        result_of(one),
        one.result_axis,
        groups=1,
        channels=one.channels,
        width=0,
        biased=True,
        takes_bias=True,
        how=f"its bias alone, since {refusal.reason}; ",
        layer=one,
        step=step,
        norm=norm,
    )


def _solvable_norm(scope: Scope, node: NodeProto) -> Solvable | Refusal:
    found = normalization(scope, node)
    if isinstance(found, Refusal):
        return found
    count = len(found.factor)
    return _SolvableNorm(
        scope,
        node,
        node.output[0],
        axis=1,
        groups=count,
        channels=count,
        width=count,
        biased=True,
        takes_bias=True,
        how="",
        norm=found,
    )


def solvables(graph: Graph, chosen: Callable[[NodeProto], bool]) -> Iterator[Solvable | Refusal]:
    """What can be solved for in the main graph, in order; refusals of layers that cannot.

    A BatchNormalization is solved for where no layer is of which it is a part.

    Args:
        graph: The graph.
        chosen: Which nodes count.
    """
    scope, parts = graph.main, set[int]()
    for node in list(scope.nodes):
        if is_op(node, "BatchNormalization") and id(node) not in parts and chosen(node):
            yield _solvable_norm(scope, node)
        for one in layers_of(scope, node):
            if isinstance(one, Refusal):
                yield one
            elif one.multiplies and chosen(node):
                found = _solvable(one)
                if isinstance(found, Solvable) and (behind := _behind(one)) is not None:
                    parts.add(id(behind))
                yield found


def _solvable(one: Layer) -> Solvable | Refusal:
    return solvable_at(one, refit_refusal(one))


def solvable_at(one: Layer, refusal: Refusal | None) -> Solvable | Refusal:
    """A layer as what it can be solved for, where that may be its bias alone.

    Args:
        one: The layer.
        refusal: Why its weight has to stay; None where it has not.
    """
    return solvable_layer(one) if refusal is None else _solvable_bias(one, refusal) or refusal
