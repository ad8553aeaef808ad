"""Layers that read a group and keep their weights as they are when units go.

Recurrent layers and an Einsum are such, and whatever else has a weight and reads rows that nobody
knows. What they lose with a unit is the energy that it adds to their sums, by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGroup
from graphopt.contract.passes import Observe, RowMoments
from graphopt.facts.layers import Layer
from graphopt.facts.shapes import Shapes
from graphopt.graph.node import label
from graphopt.numerics.elimination import Reader

__all__ = ["Energies", "input_energies", "kept_reader", "reads_like"]

Floats = NDArray[np.float64]
Energies = Mapping[tuple[str, int], Floats]
"""By node and input of the weight: mean square of each input channel ``(in,)`` on the samples."""


def input_energies(
    groups: Iterable[ChannelGroup],
    solved: Mapping[str, object],
    shapes: Shapes,
    observe: Observe,
    rows: int,
) -> Energies:
    """What samples say of the channels that layers read whose weights stay; all at once.

    Args:
        groups: Whose readers count.
        solved: Those that are solved anew, by the name of their output.
        shapes: Of the tensors.
        observe: Answers.
        rows: Most positions to look at.
    """
    asked = {}
    for group in groups:
        for layer in group.consumers:
            if layer.node.output[0] not in solved:
                request = _request(group, layer, shapes, rows)
                if request is not None:
                    asked[_key(layer)] = request
    if not asked:
        return {}
    answers, found = observe(asked.values()), {}
    for key, request in asked.items():
        if answers.failure(request) is not None:
            continue
        moments = answers[request]
        found[key] = np.diag(moments.covariance[0]) + moments.mean[0] ** 2
    return found


def kept_reader(group: ChannelGroup, layer: Layer, energies: Energies) -> Reader:
    """A reader that adds up what units add to its sums, each by itself.

    Where nothing is known of what it reads, all channels count as equally large.
    """
    axis = layer.read_axes[1]
    values = np.moveaxis(layer.weight.values().astype(np.float64), axis, 0)
    weight = values.reshape(len(values), -1)
    energy = energies.get(_key(layer))
    if energy is None or len(energy) != len(weight):
        energy = np.ones(len(weight))
    units = group.positions[layer.node.input[layer.weight.index], axis]
    columns = np.full((len(units), max(map(len, units))), -1, np.intp)
    for row, held in zip(columns, units, strict=True):
        row[: len(held)] = held
    return Reader(np.diag(energy), weight, columns)


def reads_like(layer: Layer, energies: Energies) -> str:
    """By what a layer is judged that keeps its weight, in words."""
    name = f"{layer.node.op_type} {label(layer.node)!r}"
    if _key(layer) in energies:
        return f"{name} keeps its weights"
    return f"{name} keeps its weights and is judged by these alone"


def _request(group: ChannelGroup, layer: Layer, shapes: Shapes, rows: int) -> RowMoments | None:
    """Rows along the axis that holds the units in what a layer reads; None for several or none."""
    tensor = layer.data
    if layer.kind == "recurrent" and layer.weight.index > 1:  # reads what it made a step before
        tensor = next(filter(None, layer.node.output[:2]), "")
    axes = [axis for name, axis in group.positions if name == tensor]
    info = shapes.get(tensor)
    if len(axes) != 1 or info is None or info.shape is None:
        return None
    return RowMoments(tensor, axes[0] - len(info.shape), most=rows)


def _key(layer: Layer) -> tuple[str, int]:
    return next(filter(None, layer.node.output)), layer.weight.index
