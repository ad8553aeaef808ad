"""Takes positions out of axes all over a graph: constants are cut, stated sizes written anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorShapeProto, TypeProto

from graphopt.facts.axes import Nest
from graphopt.facts.shapes import Shapes, infer
from graphopt.facts.some_sizes import at_some_sizes
from graphopt.graph.constant import constants_of
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op
from graphopt.rewrite.computed_sizes import ComputedSizes
from graphopt.rewrite.shrunk import Place, axes_of, shrunk_node
from graphopt.rewrite.stated_sizes import state_sizes

__all__ = ["Kept", "marked", "remove_channels"]

Kept = dict[Place, NDArray[np.intp]]
"""Axes of tensors of the main graph, and which of their positions are left, in order."""


def remove_channels(graph: Graph, shapes: Shapes, gone: Mapping[Place, Collection[int]]) -> Kept:
    """Remove positions of axes; what is left computes as if they were zero where they are summed.

    Args:
        graph: Edited.
        shapes: Of its tensors as they are.
        gone: For axes of tensors of the main graph, constants included, the positions to remove.
            All that go together must be there: see ``graphopt.analysis.channels``.

    Returns:
        What is left of these axes.

    Raises:
        ValueError: The positions cannot go as they are given, or none would be left of an axis;
            nothing was edited.
    """
    scope = graph.main
    some = at_some_sizes(graph, shapes)
    touched = {name for name, _ in gone}
    nests = [
        (node, some.nest(scope, node))
        for node in scope.nodes
        if not is_op(node, "Shape") and not touched.isdisjoint((*node.input, *node.output))
    ]
    flags = marked(nests, gone)
    found = [shrunk_node(node, made, flags) for node, made in nests]
    lengths = {place: (len(marks), int((~marks).sum())) for place, marks in flags.items()}
    always = infer(graph) if some.shapes is not shapes else shapes
    sizes = ComputedSizes(scope, some.shapes, always, found, lengths)
    for one in found:
        state_sizes(scope, one, sizes)
    sizes.restore()
    kept: Kept = {place: np.flatnonzero(~marks) for place, marks in flags.items()}
    _cut(scope, kept)
    _declare(scope, kept)
    return kept


def marked(
    nests: Sequence[tuple[NodeProto, Nest]], gone: Mapping[Place, Collection[int]]
) -> dict[Place, NDArray[np.bool_]]:
    """Which positions of each axis go.

    Raises:
        ValueError: The size of an axis is not known, or nothing would be left of it.
    """
    lengths: dict[Place, int] = {}
    for node, made in nests:
        for place, axis in axes_of(node, made):
            length = made.length(axis)
            if length is not None:
                lengths.setdefault(place, length)
    flags: dict[Place, NDArray[np.bool_]] = {}
    for place, positions in gone.items():
        if place not in lengths:
            raise ValueError(f"the size of axis {place[1]} of {place[0]!r} is not known")
        flags[place] = np.zeros(lengths[place], bool)
        flags[place][list(positions)] = True
        if flags[place].all():
            raise ValueError(f"nothing would be left of axis {place[1]} of {place[0]!r}")
    return {place: marks for place, marks in flags.items() if marks.any()}


def _cut(scope: Scope, kept: Kept) -> None:
    """Take positions out of constants."""
    axes: dict[str, dict[int, NDArray[np.intp]]] = {}
    for (name, axis), left in kept.items():
        axes.setdefault(name, {})[axis] = left
    for constant in list(constants_of(scope)):
        if constant.origin in axes:
            values = constant.values
            for axis, left in axes[constant.origin].items():
                values = values.take(left, axis)
            constant.set(np.ascontiguousarray(values))


def _declare(scope: Scope, kept: Kept) -> None:
    """Write the new sizes into the declared types of tensors."""
    axes: dict[str, dict[int, int]] = {}
    for (name, axis), left in kept.items():
        axes.setdefault(name, {})[axis] = len(left)
    for value in list(scope.value_infos):
        if value.name in axes and scope.constant(value.name) is None:
            kind = TypeProto()
            kind.CopyFrom(value.type)
            dims = kind.tensor_type.shape.dim
            for axis, size in axes[value.name].items():
                if axis < len(dims) and dims[axis].HasField("dim_value"):
                    dims[axis].CopyFrom(TensorShapeProto.Dimension(dim_value=size))
            scope.value_infos.retype(value.name, kind)
