"""A node whose loops lose values: what becomes of its axes and of the sizes that it states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.facts.axes import Axis, Nest, loops_of
from graphopt.graph.node import label

__all__ = ["Place", "Shrunk", "axes_of", "shrunk_node"]

Place = tuple[str, int]
"""A tensor and the number of one of its axes."""
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A node that loses values of its loops.

    Attributes:
        node: The node as it was.
        nest: Its loops as they were.
        lost: For the loops that lose values, whether each of them goes.
    """

    node: NodeProto
    nest: Nest
    lost: Mapping[str, Flags]

    def length(self, axis: Axis) -> int | None:
        """Elements of an axis that are left; None where its size is not known."""
        total = 0
        for piece in axis:
            if piece.picks is not None and self.nest.length((piece,)) is not None:
                total += len(self.picks(axis))
                continue
            sizes = [self.nest.sizes[loop] for loop in piece.loops]
            known = [size for size in sizes if isinstance(size, int)]
            if len(known) < len(sizes):
                return None
            less = [int(self.lost[loop].sum()) if loop in self.lost else 0 for loop in piece.loops]
            total += math.prod(size - gone for size, gone in zip(known, less, strict=True))
        return total

    def picks(self, axis: Axis) -> list[int]:
        """The picks of an axis that are left, by the numbers of the values that are left."""
        left: list[int] = []
        for piece in axis:
            lost = self.lost.get(piece.loops[0]) if piece.loops else None
            if piece.picks is not None and lost is not None:
                numbers = np.cumsum(~lost) - 1
                left += [int(numbers[pick]) for pick in piece.picks if not lost[pick]]
            elif piece.picks is not None:
                left += piece.picks
        return left

    def gone(self, axis: Axis) -> Flags:
        """Which positions of an axis go."""
        marks = np.zeros(self.nest.length(axis) or 0, bool)
        for loop in loops_of(axis) & set(self.lost):
            values = self.nest.values_at(axis, loop)
            marks |= (values >= 0) & self.lost[loop][values]
        return marks


def shrunk_node(node: NodeProto, made: Nest, gone: Mapping[Place, Flags]) -> Shrunk:
    """What becomes of a node when positions of its operands go.

    Args:
        node: The node, before anything was edited.
        made: Its loops.
        gone: Axes that lose positions, and which.

    Raises:
        ValueError: The positions are no whole values of its loops, or of such as cannot go.
    """
    lost: dict[str, Flags] = {}
    for place, axis in axes_of(node, made):
        if place in gone:
            for loop in loops_of(axis):
                flags = _lost(made, axis, loop, gone[place])
                lost[loop] = lost[loop] | flags if loop in lost else flags
    found = Shrunk(node, made, {loop: flags for loop, flags in lost.items() if flags.any()})
    for place, axis in axes_of(node, made):
        expected = gone.get(place)
        if expected is None and not loops_of(axis) & set(found.lost):
            continue
        if expected is None or not np.array_equal(found.gone(axis), expected):
            raise ValueError(f"{label(node)!r} cannot lose these positions of {place[0]!r}")
    if frozen := set(found.lost) & set(made.fixed):
        raise ValueError(f"{label(node)!r} cannot lose any: {made.fixed[min(frozen)]}")
    return found


def axes_of(node: NodeProto, made: Nest) -> Iterator[tuple[Place, Axis]]:
    """The axes of all operands whose axes are known."""
    for names, known in ((node.input, made.inputs), (node.output, made.outputs)):
        for name, axes in zip(names, known, strict=True):
            yield from (((name, at), axis) for at, axis in enumerate(axes or ()) if name)


def _lost(made: Nest, axis: Axis, loop: str, gone: Flags) -> Flags:
    """The values of a loop all of whose positions on an axis go."""
    size = made.sizes[loop]
    values = made.values_at(axis, loop)
    count = size if isinstance(size, int) else 0
    whole = np.bincount(values[values >= 0], minlength=count)
    less = np.bincount(values[gone & (values >= 0)], minlength=count)
    return np.asarray((whole > 0) & (less == whole))
