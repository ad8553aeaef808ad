"""Times of a model's layers, measured on this machine, by the widths of what they read and make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from graphopt.analysis.channels import ChannelGroup
from graphopt.facts.layers import Layer, layers_of
from graphopt.facts.shapes import Shapes
from graphopt.families.channels.costs import ChannelCosts, Term, TimeTable
from graphopt.families.channels.narrowable import Way
from graphopt.families.channels.readers import channel_axis
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute, label
from graphopt.graph.tensors import Array
from graphopt.numerics.im2col import Window
from graphopt.runtime.layer_times import TimedLayer, layer_times
from graphopt.runtime.profile import node_times

__all__ = ["Form", "timed_costs"]

Form = Literal["float", "int8"]

_RUNS = 15
_CALM = 0.2
_MIXED = 4
"""Widths of an axis that several groups share: so many steps down to a quarter."""
_OTHERS = {"float": 1.0, "int8": 0.25}
"""What nodes without a weight take, of their time on floats: they move a quarter of the bytes."""

Place = tuple[str, int]


def timed_costs(
    graph: Graph,
    shapes: Shapes,
    ways: Sequence[Way],
    feeds: Mapping[str, Array],
    *,
    form: Form,
    threads: int,
) -> ChannelCosts:
    """Milliseconds of a run, by the widths of groups.

    Convolutions and products with a weight are measured at the widths that their groups may have;
    all other nodes are taken to follow the size of their results.

    Args:
        graph: The model.
        shapes: Of its tensors in that run.
        ways: The groups, with the widths that they may have.
        feeds: One feed.
        form: What its layers will compute in.
        threads: Threads of the run; 0 for all cores.

    Raises:
        ModelError: The model or a layer cannot be run.
    """
    found = node_times(graph, feeds, threads=threads, runs=_RUNS, quantile=_CALM)
    lengths = _lengths([way.group for way in ways], shapes)
    tables: list[TimeTable] = []
    terms: list[Term] = []
    known: dict[tuple[object, ...], np.ndarray] = {}
    for node in graph.main.nodes:
        layer = next((one for one in layers_of(graph.main, node) if isinstance(one, Layer)), None)
        timed = _timed(layer, shapes) if layer is not None else None
        if layer is None or timed is None:
            axes = {
                place: lengths[place] for place in _axes(node.output[0], shapes) if place in lengths
            }
            terms.append((_OTHERS[form] * found.get(label(node), 0.0), axes))
            continue
        ends = (layer.data, channel_axis(layer, shapes)), _made(layer, shapes)
        full = (layer.in_channels, layer.channels)
        widths = tuple(_widths(place, whole, ways) for place, whole in zip(ends, full, strict=True))
        key = (timed, widths)
        if key not in known:
            positive = tuple([width for width in each if width] for each in widths)
            known[key] = _with_nothing(
                layer_times(timed, (positive[0], positive[1]), form=form, threads=threads), widths
            )
        costs = known[key]
        own = found.get(label(node))
        scale = own / costs[-1, -1] if form == "float" and own else 1.0
        grid = tuple(np.array(each, np.float64) for each in widths)
        tables.append(TimeTable(ends, (grid[0], grid[1]), costs * scale))
    return ChannelCosts(terms, [way.group for way in ways], tables)


def _with_nothing(costs: np.ndarray, widths: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """The table with what width 0 costs, where it is asked for: nothing."""
    first, second = (int(each[0] == 0) for each in widths)
    return np.pad(costs, ((first, 0), (second, 0)))


def _timed(layer: Layer, shapes: Shapes) -> TimedLayer | None:
    """The layer as it is timed; None where it is of another kind."""
    data = shapes.static_shape(layer.data)
    if data is None or not layer.multiplies or (layer.refusal("matrix") and layer.kind == "linear"):
        return None
    if layer.kind == "linear":
        if layer.data_index or attribute(layer.node, "transA", 0):
            return None
        return TimedLayer("MatMul", data)
    if layer.node.op_type != "Conv" or (layer.groups > 1 and not layer.depthwise):
        return None
    kernel = layer.weight.constant.shape[2:]
    node = layer.node
    window = Window(
        kernel,
        tuple(attribute(node, "strides", ())),
        tuple(attribute(node, "pads", ())),
        tuple(attribute(node, "dilations", ())),
        attribute(node, "auto_pad", "NOTSET"),
    )
    pads = window.padding(data[2:])
    given = {
        "strides": window.strides,
        "dilations": window.dilations,
        "pads": (*(first for first, _ in pads), *(last for _, last in pads)),
    }
    held = tuple((name, values) for name, values in given.items() if values)
    return TimedLayer("Conv", data, kernel, held, layer.depthwise)


def _made(layer: Layer, shapes: Shapes) -> Place:
    """The axis of the channels that a layer makes."""
    name = layer.node.output[0]
    shape = shapes.static_shape(name) or ()
    return name, layer.result_axis % max(1, len(shape))


def _widths(place: Place, whole: int, ways: Sequence[Way]) -> tuple[int, ...]:
    """What lengths an axis may have, rising."""
    found = [way for way in ways if place in way.group.positions]
    if not found:
        return (whole,)
    if len(found) == 1:
        units = found[0].group.positions[place]
        each = sum(map(len, units)) // len(units)
        rest = whole - each * found[0].group.size
        return tuple(sorted(rest + each * width for width in found[0].widths))
    steps = np.linspace(whole / 4, whole, _MIXED)
    return tuple(sorted({max(1, round(float(step) / 8) * 8) for step in steps[:-1]} | {whole}))


def _lengths(groups: Sequence[ChannelGroup], shapes: Shapes) -> dict[Place, int]:
    """Of the axes that hold units."""
    lengths: dict[Place, int] = {}
    for group in groups:
        for name, axis in group.positions:
            shape = shapes.static_shape(name)
            if shape is not None:
                lengths[name, axis] = shape[axis]
    return lengths


def _axes(name: str, shapes: Shapes) -> list[Place]:
    return [(name, axis) for axis in range(len(shapes.static_shape(name) or ()))]
