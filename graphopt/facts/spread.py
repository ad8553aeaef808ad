"""Scales and zero points as nodes read them: a constant, cast and spread over blocks on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.graph.graph import Constant, Scope, Use
from graphopt.graph.node import attribute, is_op

__all__ = ["SpreadConstant", "producer", "spread_constant"]

_FOLLOWED = 4  # Cast, Expand, Reshape and Slice
_MOST = 1 << 28  # elements that a scale is spread to, at the most


@dataclass(frozen=True, eq=False)
class SpreadConstant:
    """A constant that is cast, and repeated for the elements of its blocks, before it is read.

    Attributes:
        constant: What is stored.
        place: Where that is read.
        path: The nodes between, from the constant on.
        axis: Of what is read: along it neighbours share a value; None where all stands alone.
        block: How many do; the last block may have fewer.
    """

    constant: Constant
    place: Use
    path: tuple[Use, ...] = ()
    axis: int | None = None
    block: int = 1

    def values(self) -> NDArray[Any]:
        """What is read.

        Raises:
            ValueError: The nodes between do not fit the constant.
        """
        values = self.constant.values
        for use in self.path:
            values = _computed(use, values)
        return values

    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the constant without the axis that is there to be repeated along."""
        shape = self.constant.shape
        return shape if self.axis is None else shape[: self.axis + 1] + shape[self.axis + 2 :]


def producer(scope: Scope, name: str) -> tuple[Scope, NodeProto | None]:
    """Where ``name`` is computed, in this scope or around it, and by which node."""
    home: Scope | None = scope
    while home is not None:
        if home.defines(name):
            return home, home.producer(name)
        home = home.parent
    return scope, None


def spread_constant(scope: Scope, node: NodeProto, index: int) -> SpreadConstant | None:
    """The scale or zero point that a node reads at ``index``.

    That is a constant, or one behind a Cast, and behind an Expand along a single axis with a
    Reshape that merges this with the one before, and a Slice of the last block.

    Returns:
        None where something else is read.
    """
    if len(node.input) <= index or not node.input[index]:
        return None
    place, path = Use(scope, node, index), list[Use]()
    for _ in range(_FOLLOWED + 1):
        home, name = place.scope, place.node.input[place.index]
        constant = home.constant(name)
        if constant is not None:
            return _made(constant, place, tuple(reversed(path)))
        home, maker = producer(home, name)
        if maker is None or not is_op(maker, "Cast", "Expand", "Reshape", "Slice"):
            return None
        if any(home.constant(other) is None for other in maker.input[1:]):
            return None
        place = Use(home, maker, 0)
        path.append(place)
    return None


def _made(constant: Constant, place: Use, path: tuple[Use, ...]) -> SpreadConstant | None:
    kinds = [use.node.op_type for use in path]
    axis, block = None, 1
    if kinds[:1] == ["Cast"]:
        kinds = kinds[1:]
    if kinds:
        if kinds not in (["Expand", "Reshape"], ["Expand", "Reshape", "Slice"]):
            return None
        sizes, shape = _sizes(path[-len(kinds)]), constant.shape
        if len(sizes) != len(shape):
            return None
        grown = [at for at, size in enumerate(sizes) if size != shape[at]]
        if len(grown) != 1 or grown[0] == 0 or shape[grown[0]] != 1:
            return None
        axis, block = grown[0] - 1, sizes[grown[0]]
        merged = [*sizes[:axis], sizes[axis] * block, *sizes[axis + 2 :]]
        if _sizes(path[len(path) - len(kinds) + 1]) != merged or math.prod(sizes) > _MOST:
            return None
    return SpreadConstant(constant, place, path, axis, block)


def _sizes(use: Use) -> list[int]:
    constant = use.scope.constant(use.node.input[1])
    assert constant is not None
    return [int(size) for size in constant.values.reshape(-1)]


def _computed(use: Use, values: NDArray[Any]) -> NDArray[Any]:
    node = use.node
    if is_op(node, "Cast"):
        return values.astype(tensor_dtype_to_np_dtype(attribute(node, "to", 1)))
    if is_op(node, "Expand"):
        return np.broadcast_to(values, _sizes(use))
    if is_op(node, "Reshape"):
        return values.reshape(_sizes(use))
    starts, ends, axes = (use.scope.constant(name) for name in node.input[1:4])
    if starts is None or ends is None or axes is None or len(node.input) > 4:
        raise ValueError("a Slice that is not of one axis")
    cut = [slice(None)] * values.ndim
    for axis, start, end in zip(axes.values, starts.values, ends.values, strict=True):
        cut[axis] = slice(start, end)
    return values[tuple(cut)]
