"""How the axes of a node's outputs follow from those of its inputs: a node as a nest of loops.

Every operator computes its elements in loops, and each axis of each operand runs through some of
them. A matrix product has three, ``row``, ``in`` and ``out``: its operands are ``row in`` and
``in out``, its result is ``row out``. Axes that share a loop are coupled: whoever removes value
``v`` of a loop removes it from all of them at once, and every other element of the result stays
as it was (where the loop is summed: as it was with zeros at ``v``). A loop that cannot lose a
value stands in ``fixed``, with the reason.

Source: the indexing maps of MLIR's linalg dialect and the notation of einops say the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from graphopt.facts.shapes import Dim

__all__ = [
    "ONE",
    "Axes",
    "Axis",
    "Nest",
    "Piece",
    "Shape",
    "Unknown",
    "loops_of",
]

Shape = tuple[Dim, ...]

_LONGEST_AXIS = 1 << 24
"""Most elements of an axis whose places are listed one by one; layers have some thousand."""


class Unknown(Exception):  # noqa: N818 - no failure: the axes are fixed with this reason
    """Why nothing can be said of a node's axes."""


@dataclass(frozen=True)
class Piece:
    """A stretch of an axis.

    Attributes:
        loops: What it runs through, the outermost first: element ``(i, j)`` of loops of sizes
            ``(m, n)`` stands at ``i * n + j``. Without any it is a single element.
        picks: Values of its one loop, in the order in which they come; None for all of them.
    """

    loops: tuple[str, ...] = ()
    picks: tuple[int, ...] | None = None


Axis = tuple[Piece, ...]
"""Stretches that stand one behind the other; none at all is an axis of size 0."""
Axes = tuple[Axis, ...]
ONE: Axis = (Piece(),)
"""An axis of size 1 that is broadcast, or left over."""


@dataclass(frozen=True)
class Nest:
    """The loops of one node.

    Attributes:
        sizes: Of each loop, as far as it is known.
        inputs: Axes of each input; None where it is absent or its rank is unknown.
        outputs: Axes of each output, likewise.
        fixed: Loops that cannot lose a value, and why not.
        counts: Where the node says sizes: attributes by name, constant inputs by index. Each
            entry is the length of an axis (several: a list). They are written anew when a loop
            shrinks. An input that the node does not have is then added.
        picks: The constant input that holds the picks of an output, to be numbered anew.
        bodies: For If, Loop and Scan: axes of the inputs and outputs of each body.
    """

    sizes: Mapping[str, Dim]
    inputs: tuple[Axes | None, ...]
    outputs: tuple[Axes | None, ...]
    fixed: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str | int, tuple[Axis, ...]] = field(default_factory=dict)
    picks: int | None = None
    bodies: Mapping[str, tuple[tuple[Axes | None, ...], tuple[Axes | None, ...]]] = field(
        default_factory=dict
    )

    @property
    def loops(self) -> list[str]:
        """Names of all loops, in the order in which the operands name them."""
        return list(self.sizes)

    @property
    def summed(self) -> list[str]:
        """Loops of inputs that no output has: products over them are added up."""
        shown = {loop for axes in self.outputs for axis in axes or () for loop in loops_of(axis)}
        return [
            loop
            for loop in self.sizes
            if loop not in shown and any(self.axes_of(index, loop) for index in self.read)
        ]

    @property
    def read(self) -> list[int]:
        """Inputs whose axes are known."""
        return [index for index, axes in enumerate(self.inputs) if axes is not None]

    def axes_of(self, index: int, loop: str) -> list[int]:
        """Numbers of the axes of input ``index`` that run through ``loop``."""
        axes = self.inputs[index] if index < len(self.inputs) else None
        return [number for number, axis in enumerate(axes or ()) if loop in loops_of(axis)]

    def length(self, axis: Axis) -> int | None:
        """Elements of an axis; None where a loop has no known size."""
        total = 0
        for piece in axis:
            sizes = [self.sizes[loop] for loop in piece.loops]
            known = [size for size in sizes if isinstance(size, int)]
            if len(known) < len(sizes):
                return None
            total += len(piece.picks) if piece.picks is not None else math.prod(known)
        return total

    def positions(self, axis: Axis, loop: str, value: int) -> list[int]:
        """Where on an axis the elements of value ``value`` of ``loop`` stand.

        Raises:
            Unknown: A loop of the axis has no known size, or an immense one.
        """
        if loop not in loops_of(axis):
            return []
        places: list[int] = np.flatnonzero(self.values_at(axis, loop) == value).tolist()
        return places

    def values_at(self, axis: Axis, loop: str) -> NDArray[np.intp]:
        """Which value of ``loop`` each position of an axis stands for; -1 where for none.

        Raises:
            Unknown: A loop of the axis has no known size, or an immense one.
        """
        parts: list[NDArray[np.intp]] = []
        for piece in axis:
            length = self.length((piece,))
            if length is None:
                raise Unknown("a size is not known")
            if length > _LONGEST_AXIS:
                raise Unknown(f"an axis has {length} elements")
            if loop not in piece.loops:
                parts.append(np.full(length, -1))
            elif piece.picks is not None:
                parts.append(np.array(piece.picks, np.intp))
            else:
                depth = piece.loops.index(loop)
                size = self.length((Piece((loop,)),)) or 1
                inner = self.length((Piece(piece.loops[depth + 1 :]),)) or 1
                parts.append(np.arange(length) // inner % size)
        return np.concatenate(parts) if parts else np.arange(0)


def loops_of(axis: Axis) -> set[str]:
    """Names of the loops that an axis runs through."""
    return {loop for piece in axis for loop in piece.loops}
