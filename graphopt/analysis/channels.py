"""Coupled channels: which channels of which tensors go together when a model is pruned.

A *unit* is what goes at once: one channel, one attention head, or what else must go together. Its
positions lie on axes of tensors and constants all over the graph; what is left computes as if the
unit were zero wherever it is summed up. Units that lie on the same axes form a *group*. All of it
follows from the table of operators (``graphopt.facts.operators``).

Source: Fang et al. 2023, DepGraph, call such groups the same; here every position of every axis is
followed, so that Concat, Split, Pad and reshapes need no rules of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto

from graphopt.analysis.amounts import Amount, PositionCosts
from graphopt.analysis.coupling import Coupling, Reason, couple
from graphopt.analysis.heads import are_heads, head_numbers
from graphopt.analysis.knots import Ints
from graphopt.facts.layers import Layer, layers_of
from graphopt.facts.operands import operand
from graphopt.facts.operators import find
from graphopt.facts.shapes import Shapes
from graphopt.facts.weighted_calls import weighted_calls
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op, label
from graphopt.rewrite.shrunk import Place

__all__ = ["ChannelGroup", "Channels", "Fixed", "channel_groups"]

_ALONE = Reason("it is the only one of its kind", "")
_INNER = Reason("it is in a body", "")
_CALL = Reason("it calls a local function; put inline-functions before", "")


@dataclass(frozen=True, eq=False)
class Fixed:
    """Why output channels of a layer stay.

    Attributes:
        node: The layer.
        reason: In words.
        at: The node or tensor that keeps them; empty where it is the layer itself.
    """

    node: NodeProto
    reason: str
    at: str


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Units that lie on the same axes; each can go without the others.

    Attributes:
        name: That of the first node that makes them, with a number behind where it makes several.
        size: How many units they are.
        positions: For each axis of each tensor of the main graph, constants included, the
            positions of each unit; never empty.
        producers: Layers whose output channels they are.
        consumers: Layers that sum over them.
        share: What would go with all of them.
        heads: Whether they are attention heads, or some together that share keys.
    """

    name: str
    size: int
    positions: Mapping[Place, tuple[tuple[int, ...], ...]]
    producers: tuple[Layer, ...]
    consumers: tuple[Layer, ...]
    share: Amount
    heads: bool = False

    def gone(self, units: Collection[int]) -> dict[Place, list[int]]:
        """The positions that go with some of the units."""
        return {
            place: [position for unit in held for position in unit]
            for place, held in self.chosen(units).items()
        }

    def chosen(self, units: Collection[int]) -> Mapping[Place, tuple[tuple[int, ...], ...]]:
        """``positions`` of some of the units."""
        return {
            place: tuple(held[unit] for unit in units) for place, held in self.positions.items()
        }


@dataclass(frozen=True)
class Channels:
    """All coupled channels of a model.

    Attributes:
        groups: In order of the first nodes that make them.
        fixed: Layers some of whose output channels stay, with the reason.
        share: What would go with all units of all groups.
        whole: The model.
    """

    groups: tuple[ChannelGroup, ...]
    fixed: tuple[Fixed, ...]
    share: Amount
    whole: Amount
    _costs: PositionCosts = field(repr=False)

    def amount(self, removed: Mapping[ChannelGroup, Collection[int]]) -> Amount:
        """What goes with some units of each group, all together."""
        return self._costs.gone(_counts(group.chosen(units) for group, units in removed.items()))

    def gone(self, removed: Mapping[ChannelGroup, Collection[int]]) -> dict[Place, list[int]]:
        """The positions that go with some units of each group, for ``remove_channels``."""
        found: dict[Place, list[int]] = {}
        for group, units in removed.items():
            for place, positions in group.gone(units).items():
                found.setdefault(place, []).extend(positions)
        return found


def channel_groups(graph: Graph, shapes: Shapes) -> Channels:
    """The channels of a model that can be removed, and what goes with each.

    Args:
        graph: The model; what stands in bodies and local functions stays as it is.
        shapes: Of its tensors; MACs are counted at these sizes.
    """
    scope = graph.main
    coupling = couple(graph, shapes)
    made = list(_made(scope, shapes))
    makers, readers = _by_place(made), _by_place(_summed(scope))
    fixed: dict[int, Reason] = {}
    for layer, place in made:
        numbers = coupling.at(place)
        why = _reason(coupling, numbers)
        if why is not None:
            fixed.setdefault(id(layer.node), why)
    costs = PositionCosts(graph, shapes)
    heads = head_numbers(scope, coupling.knots)
    groups: list[ChannelGroup] = []
    names: Counter[str] = Counter()
    for units, places in _grouped(coupling, [place for _, place in made]):
        producers = _at(makers, places)
        if len(units) < 2:
            for layer in producers:
                fixed.setdefault(id(layer.node), _ALONE)
            continue
        name = label(producers[0].node)
        names[name] += 1
        positions = {place: _positions(coupling, place, units) for place in places}
        groups.append(
            ChannelGroup(
                name if names[name] == 1 else f"{name} ({names[name]})",
                len(units),
                positions,
                producers,
                _at(readers, places),
                costs.gone(_counts([positions])),
                are_heads(positions, heads),
            )
        )
    nodes = [layer.node for layer, _ in made]
    for node, reason in _others(graph):
        fixed.setdefault(id(node), reason)
        nodes.append(node)
    share = costs.gone(_counts([group.positions for group in groups]))
    stay = {id(node): Fixed(node, *fixed[id(node)]) for node in nodes if id(node) in fixed}
    return Channels(tuple(groups), tuple(stay.values()), share, costs.whole, costs)


def _others(graph: Graph) -> Iterator[tuple[NodeProto, Reason]]:
    """What has weights and is no layer of the main graph, with the reason why it stays."""
    scope = graph.main
    for body in graph.scopes():
        for node in body.nodes if body is not scope else ():
            if any(isinstance(each, Layer) for each in layers_of(body, node)):
                yield node, _INNER
    for node in weighted_calls(graph):
        yield node, _CALL


def _made(scope: Scope, shapes: Shapes) -> Iterator[tuple[Layer, Place]]:
    """Each layer with an axis of its output channels: that of its weight, or of its result."""
    for node in scope.nodes:
        for layer in layers_of(scope, node):
            if not isinstance(layer, Layer):
                continue
            axis = layer.read_axes[0] if layer.kind != "table" else layer.read_axes[1]
            place = node.input[layer.weight.index], axis
            info = shapes.get(node.output[0])
            if is_op(node, "ConvTranspose") and info is not None and info.shape:
                place = node.output[0], 1
            yield layer, place
        packed = _packed(scope, node)
        if packed is not None:
            yield packed, (node.input[packed.weight.index], packed.read_axes[0])


def _packed(scope: Scope, node: NodeProto) -> Layer | None:
    """The projections that an operator of attention holds itself, as a layer."""
    row = find(node)
    if row is None or row.kind != "attention" or len(row.weights) < 2:
        return None
    weight = operand(scope, node, row.weights[0])
    return None if weight is None else Layer(scope, node, "linear", weight, (1, 0))


def _summed(scope: Scope) -> Iterator[tuple[Layer, Place]]:
    """Each layer with the axis of its weight that it sums over."""
    for node in scope.nodes:
        for layer in layers_of(scope, node):
            if not isinstance(layer, Layer) or layer.kind == "table":
                continue
            if layer.groups < max(2, layer.in_channels):  # else each channel stays by itself
                yield layer, (node.input[layer.weight.index], layer.read_axes[1])


def _by_place(layers: Iterable[tuple[Layer, Place]]) -> dict[Place, list[tuple[int, Layer]]]:
    """Layers with their rank in the graph, by axis."""
    found: dict[Place, list[tuple[int, Layer]]] = {}
    for rank, (layer, place) in enumerate(layers):
        found.setdefault(place, []).append((rank, layer))
    return found


def _at(
    layers: Mapping[Place, Sequence[tuple[int, Layer]]], places: Iterable[Place]
) -> tuple[Layer, ...]:
    """The layers of some axes, in order of the graph."""
    ranked = dict(each for place in places for each in layers.get(place, ()))
    return tuple(ranked[rank] for rank in sorted(ranked))


def _reason(coupling: Coupling, numbers: Ints | None) -> Reason | None:
    """Why the first position that stays does; None where all can go."""
    if numbers is None:
        return Reason("its size is not known", "")
    return next((coupling.reasons[n] for n in numbers.tolist() if n in coupling.reasons), None)


def _grouped(coupling: Coupling, seeds: list[Place]) -> Iterator[tuple[Ints, list[Place]]]:
    """What goes together and holds output channels of a layer, by the axes that it lies on.

    Yields:
        The numbers of the units, in order of the seeds, and the axes, in order of the graph.
    """
    found: dict[int, None] = {}
    for place in seeds:
        numbers = coupling.at(place)
        if numbers is not None:
            found.update(dict.fromkeys(numbers.tolist()))
    units = [number for number in found if number not in coupling.reasons]
    places = list(coupling.spans)
    wanted = np.zeros(coupling.together.max(initial=0) + 1, bool)
    wanted[units] = True
    axes: dict[int, list[int]] = {number: [] for number in units}
    for at, place in enumerate(places):
        numbers = coupling.at(place)
        assert numbers is not None
        for number in np.unique(numbers[wanted[numbers]]).tolist():
            axes[number].append(at)
    groups: dict[tuple[int, ...], list[int]] = {}
    for number in units:
        groups.setdefault(tuple(axes[number]), []).append(number)
    for key, members in groups.items():
        yield np.array(members, np.intp), [places[at] for at in key]


def _positions(coupling: Coupling, place: Place, units: Ints) -> tuple[tuple[int, ...], ...]:
    """The positions of each unit on an axis."""
    numbers = coupling.at(place)
    assert numbers is not None
    order = np.argsort(numbers, kind="stable")
    begins, ends = (np.searchsorted(numbers[order], units, side) for side in ("left", "right"))
    return tuple(tuple(order[b:e].tolist()) for b, e in zip(begins, ends, strict=True))


def _counts(held: Iterable[Mapping[Place, tuple[tuple[int, ...], ...]]]) -> Counter[Place]:
    """How many positions of each axis go."""
    counts: Counter[Place] = Counter()
    for positions in held:
        for place, units in positions.items():
            counts[place] += sum(map(len, units))
    return counts
