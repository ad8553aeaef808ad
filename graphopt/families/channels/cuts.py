"""Units taken out of a graph, with the weights of their readers solved anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGroup
from graphopt.facts.layers import Layer, Refusal, layers_of
from graphopt.facts.shapes import Shapes
from graphopt.families.channels.drops import Branch, drop_branch
from graphopt.families.channels.readers import LayerRows, channel_axis
from graphopt.graph.graph import Graph
from graphopt.rewrite.edit import remove_dead
from graphopt.rewrite.remove_channels import remove_channels

__all__ = ["Cut", "cut_out", "emptied"]

_DAMPING = 1e-3


@dataclass(frozen=True, eq=False)
class Cut:
    """Units of a group that go.

    Attributes:
        group: Their group.
        gone: The units.
        branch: What goes with all of them.
    """

    group: ChannelGroup
    gone: tuple[int, ...]
    branch: Branch | None = None

    @property
    def width(self) -> int:
        """How many units are left."""
        return self.group.size - len(self.gone)

    @property
    def places(self) -> dict[tuple[str, int], list[int]]:
        """Their positions on all axes that hold them."""
        return self.group.gone(self.gone)


def emptied(graph: Graph, shapes: Shapes, cut: Cut, known: Mapping[str, LayerRows]) -> Graph:
    """A copy whose layers do not listen to the units, and make up for them as well as they can.

    It answers as one in which they are removed.
    """
    copy = graph.copy()
    places = cut.places
    for each in cut.group.consumers:
        rows = known.get(each.node.output[0])
        twin = _in(copy, each)
        if rows is None:
            _silence(each, twin, places)
            continue
        lost = places[each.data, channel_axis(each, shapes)]
        weight, bias = rows.without(lost, _DAMPING)
        if weight is None:
            _silence(each, twin, places)
        rows.put(twin, weight, bias)
    return copy


def _silence(each: Layer, twin: Layer, places: Mapping[tuple[str, int], list[int]]) -> None:
    """Put zeros into a weight where it reads lost channels."""
    constant, axis = twin.weight.constant, each.in_axis
    values = np.moveaxis(constant.values.copy(), axis, 0)
    values[places.get((each.weight.constant.origin, axis), [])] = 0
    constant.set(np.ascontiguousarray(np.moveaxis(values, 0, axis)))


def cut_out(
    graph: Graph, shapes: Shapes, cuts: Sequence[Cut], known: Mapping[str, LayerRows]
) -> dict[tuple[str, int], NDArray[np.intp]]:
    """Remove units; what is left of each axis that held some.

    Args:
        graph: Edited.
        shapes: Of its tensors as they are.
        cuts: One for each group; one that takes all units must have a branch.
        known: The layers that read them, solved anew.
    """
    gone: dict[tuple[str, int], list[int]] = {}
    readers: dict[str, Layer] = {}
    for cut in cuts:
        for axis, places in cut.places.items():
            gone.setdefault(axis, []).extend(places)
        layers = {each.node.output[0]: each for each in cut.group.consumers}
        readers |= {name: each for name, each in layers.items() if name in known}
    weights = {
        name: known[name].without(gone[each.data, channel_axis(each, shapes)], _DAMPING)
        for name, each in readers.items()
    }
    branches = [branch for cut in cuts if not cut.width and (branch := cut.branch) is not None]
    for branch in branches:
        name = branch.end.node.output[0]
        bias = weights.pop(name)[1] if name in weights else None
        constant = drop_branch(graph.main, branch, _bias_of(branch.end) if bias is None else bias)
        gone[constant, branch.channels] = gone.get((branch.output, branch.channels), [])
    if branches:
        remove_dead(graph)
        gone = {axis: places for axis, places in gone.items() if _is_there(graph, axis[0])}
    kept = remove_channels(graph, shapes, gone)
    for name, fitted in weights.items():
        if graph.main.producer(name) is not None:
            twin = _in(graph, readers[name])
            known[name].put(twin, *_narrowed(readers[name], *fitted, kept))
    return dict(kept)


def _narrowed(
    each: Layer,
    weight: NDArray[np.float64] | None,
    bias: NDArray[np.float64] | None,
    kept: Mapping[tuple[str, int], NDArray[np.intp]],
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Weight and bias at the positions that are left."""
    rank = len(each.weight.constant.shape)
    for number, stored in enumerate(_stored_axes(each, rank)):
        left = kept.get((each.weight.constant.origin, stored))
        if left is not None:
            if weight is not None:
                weight = weight.take(left, number)
            if bias is not None and stored == each.out_axis:  # of a ConvTranspose: in each group
                own = each.weight.constant.shape[stored]
                bias = bias.reshape(-1, own)[:, left].reshape(-1)
    return weight, bias


def _bias_of(each: Layer) -> NDArray[np.float64]:
    effective = each.effective()
    return np.zeros(each.channels) if isinstance(effective, Refusal) else effective[1]


def _is_there(graph: Graph, name: str) -> bool:
    return graph.main.defines(name) or graph.main.is_input(name)


def _stored_axes(each: Layer, rank: int) -> list[int]:
    """For each axis of a weight as ``LayerRows`` has it, the one of the stored constant."""
    if each.kind == "linear":
        return [each.in_axis, each.out_axis]
    order = each.weight.order
    return list(range(rank)) if order is None else list(order)


def _in(graph: Graph, each: Layer) -> Layer:
    """The layer of a copy of a graph, or of the graph as it is now."""
    node = graph.main.producer(next(filter(None, each.node.output)))
    assert node is not None
    return next(
        found
        for found in layers_of(graph.main, node)
        if isinstance(found, Layer) and found.weight.index == each.weight.index
    )
