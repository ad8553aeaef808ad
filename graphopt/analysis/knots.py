"""Nodes with the loops of their axes, and which loop of an axis of several may lose values.

An axis such as ``(heads width)`` can lose whole slabs of one of its loops, the others then stay.
The choice is one for all nodes at which the same loops meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from graphopt.facts.axes import Axes, Axis, Nest, Piece
from graphopt.facts.operators import is_kind
from graphopt.facts.shapes import Dim
from graphopt.facts.some_sizes import SomeSizes
from graphopt.graph.graph import Scope
from graphopt.graph.node import is_op
from graphopt.rewrite.shrunk import Place

__all__ = [
    "Choice",
    "Ints",
    "Knot",
    "chosen_loops",
    "families_of",
    "joined_parts",
    "knots_of",
    "long_loops",
    "loop_size",
    "operands_of",
]

Ints = NDArray[np.intp]
Choice = dict[tuple[str, ...], str]
"""Loops of a composite axis -> the one of which values can go."""


@dataclass(eq=False)
class Knot:
    """A node with its loops as points."""

    node: NodeProto
    nest: Nest
    operands: list[tuple[str, int, Axis]]
    """Tensor, number of the axis, axis."""
    begins: dict[str, int] = field(default_factory=dict)
    """First point of each loop of a known size."""

    @property
    def composites(self) -> Iterator[tuple[str, ...]]:
        """Loops of each stretch that runs through several, size 1 left out."""
        for _, _, axis in self.operands:
            for piece in axis:
                loops = long_loops(self.nest, piece)
                if len(loops) > 1:
                    yield loops


def knots_of(scope: Scope, sizes: SomeSizes) -> list[Knot]:
    """The nodes of a scope with their loops, which have no points yet."""
    knots = []
    for node in scope.nodes:
        made = sizes.nest(scope, node)
        operands = [
            (name, number, axis)
            for name, axes in operands_of(node, made)
            for number, axis in enumerate(axes or ())
        ]
        knots.append(Knot(node, made, operands))
    return knots


def operands_of(node: NodeProto, made: Nest) -> Iterator[tuple[str, Axes | None]]:
    """Tensors of a node with their axes; not what Shape reads, which is mended when it shrinks."""
    inputs = () if is_op(node, "Shape") else zip(node.input, made.inputs, strict=True)
    for name, axes in (*inputs, *zip(node.output, made.outputs, strict=True)):
        if name:
            yield name, axes


def long_loops(made: Nest, piece: Piece) -> tuple[str, ...]:
    """The loops of a stretch but those of size 1; the first one where all are."""
    loops = tuple(loop for loop in piece.loops if made.sizes[loop] != 1)
    return loops or piece.loops[:1]


def families_of(knots: Sequence[Knot]) -> dict[tuple[int, str], int]:
    """Loops of nodes that stand for the same whole axes, by a number for each such family.

    So do the loops of axes that are cut into several of the same sizes, where nothing but loops
    of whole axes lies between.
    """
    numbers: dict[tuple[int, str], int] = {}
    for at, knot in enumerate(knots):
        numbers |= {(at, loop): len(numbers) + k for k, loop in enumerate(knot.nest.sizes)}
    axes: dict[Place, int] = {}
    whole: list[tuple[int, int]] = []
    cut: list[tuple[Place, tuple[Dim, ...], list[int]]] = []
    for at, knot in enumerate(knots):
        for name, number, axis in knot.operands:
            loops = long_loops(knot.nest, axis[0]) if len(axis) == 1 else ()
            if not loops or axis[0].picks is not None:
                continue
            place, own = (name, number), [numbers[at, loop] for loop in loops]
            axes.setdefault(place, len(numbers) + len(axes))
            if len(loops) == 1:
                whole.append((axes[place], own[0]))
            else:
                cut.append((place, tuple(knot.nest.sizes[loop] for loop in loops), own))
    count = len(numbers) + len(axes)
    ends = joined_parts(count, np.array(whole, np.intp).reshape(-1, 2))
    first: dict[tuple[int, tuple[Dim, ...]], list[int]] = {}
    for place, sizes, own in cut:
        whole += zip(first.setdefault((ends[axes[place]], sizes), own), own, strict=True)
    families = joined_parts(count, np.array(whole, np.intp).reshape(-1, 2))
    return {key: int(families[number]) for key, number in numbers.items()}


def chosen_loops(
    knots: Sequence[Knot], families: dict[tuple[int, str], int], refused: set[int]
) -> list[Choice]:
    """For each node the loop that each composite axis may lose values of.

    One that was chosen at another node, else the outermost; of a convolution, whose groups may be
    few, the one with most values.
    """
    barred = refused | {
        families[at, loop] for at, knot in enumerate(knots) for loop in knot.nest.fixed
    }
    liked: set[int] = set()
    chosen: list[Choice] = []
    for at, knot in enumerate(knots):
        chosen.append({})
        for loops in knot.composites:
            order = list(loops)
            if is_kind(knot.node, "convolution", "integer"):
                order.sort(key=lambda loop: (-loop_size(knot.nest, loop), -loops.index(loop)))
            free = [loop for loop in order if families[at, loop] not in barred]
            known = [loop for loop in free if families[at, loop] in liked]
            best = (known or free or order)[0]
            chosen[-1][loops] = best
            liked.add(families[at, best])
    return chosen


def loop_size(made: Nest, loop: str) -> int:
    """Values of a loop; 0 where they are not known."""
    size = made.sizes[loop]
    return size if isinstance(size, int) else 0


def joined_parts(count: int, pairs: Ints) -> Ints:
    """For each of ``count`` points the number of its part; ``pairs`` (ties, 2) join them."""
    once = np.ones(len(pairs), np.int8)
    matrix = coo_array((once, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(matrix, directed=False)[1], np.intp)
