"""How a graph ends: the node that decides what an output is, and where its channels lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.facts.axes import loops_of
from graphopt.facts.operators import KEEPS, find, is_kind, nest
from graphopt.facts.shapes import Dim, Shapes
from graphopt.graph.graph import Scope
from graphopt.graph.node import attribute, is_op

__all__ = ["End", "end_of", "sized_by_values"]

EndKind = Literal[
    "softmax", "log-softmax", "sigmoid", "layer", "unit", "order", "packed", "numbers", "unknown"
]
"""``layer`` is a product with weights and nothing behind it, ``unit`` rows of length 1, ``order``
places and numbers of things, ``packed`` parts of different kinds one beside the other."""

_COORDINATES = 4
_NEAR = 1e-3
"""How exactly shares stay within 0 and 1, in half precision too."""
_DEFAULT_AXIS_OPSET = 13  # Softmax normalizes all axes from `axis` on before


@dataclass(frozen=True)
class End:
    """What makes an output.

    Attributes:
        kind: See ``EndKind``.
        axis: Axis of the output along which the channels of that node lie; None where unknown.
        node: The node that decides; None where there is none.
        made: The one of its results that becomes the output; empty where there is none.
    """

    kind: EndKind
    axis: int | None = None
    node: NodeProto | None = None
    made: str = ""


def end_of(scope: Scope, name: str, shapes: Shapes) -> End:
    """What makes a tensor, seen through whatever only moves it, a bias and a factor.

    Args:
        scope: The main graph.
        name: Of the tensor.
        shapes: Of the tensors of the graph.
    """
    return _End(scope, shapes).of(name)


class _End:
    """One walk from outputs upwards; parts that meet are looked at once."""

    def __init__(self, scope: Scope, shapes: Shapes) -> None:
        self.scope, self.shapes = scope, shapes
        self.seen: dict[str, End] = {}

    def of(self, name: str) -> End:
        """The end at a tensor; its axis is one of that tensor."""
        chain: list[tuple[NodeProto, int]] = []
        node = self.scope.producer(name)
        while node is not None and (index := self._through(node)) is not None:
            chain.append((node, index))
            name = node.input[index]
            node = self.scope.producer(name)
        end = End("unknown") if node is None else replace(self._decided(node), made=name)
        if end.kind == "sigmoid" and not self._within_one(chain):
            end = replace(end, kind="numbers")
        for passed, index in reversed(chain):
            end = replace(end, axis=self._carried(passed, index, end.axis))
        return end

    def _through(self, node: NodeProto) -> int | None:
        """The input that a node hands on; None where it makes something of its own."""
        if is_kind(node, *KEEPS) or is_op(node, "Dropout", "Slice", "Compress", "Where"):
            return 1 if is_op(node, "Where") else 0
        if is_op(node, "Gather", "GatherElements", "GatherND"):
            return 0 if self.scope.constant(node.input[0]) is None else None
        if not _is_arithmetic(node):
            return None
        computed = [i for i, name in enumerate(node.input) if self.scope.constant(name) is None]
        if len(computed) != 1:
            return None
        return computed[0]

    def _within_one(self, chain: Sequence[tuple[NodeProto, int]]) -> bool:
        """Whether what lies from 0 to 1 at a chain's upper end still does at its lower end."""
        low, high = 0.0, 1.0
        for node, index in reversed(chain):
            if not _is_arithmetic(node):
                continue
            other = self.scope.constant(node.input[1 - index])
            assert other is not None  # else nothing leads through the node
            values = np.ravel(other.values).astype(np.float64)
            if not values.size:
                return False
            found = [_computed(node, edge, values, index) for edge in (low, high)]
            low, high = float(np.min(found)), float(np.max(found))
        return low >= -_NEAR and high <= 1 + _NEAR

    def _decided(self, node: NodeProto) -> End:
        rank = self._rank(node.output[0])
        if is_op(node, "Softmax", "LogSoftmax"):
            old = self.scope.graph.opset < _DEFAULT_AXIS_OPSET
            axis = int(attribute(node, "axis", 1 if old else -1))
            kind: EndKind = "softmax" if is_op(node, "Softmax") else "log-softmax"
            return End(kind, _from_front(axis, rank), node)
        if is_op(node, "Sigmoid", "HardSigmoid"):
            return End("sigmoid", self._channel(node.input[0], node), node)
        if is_kind(node, "product", "convolution"):
            picture = is_kind(node, "convolution")
            return End("layer", 1 if picture else _from_front(-1, rank), node)
        if is_op(node, "LpNormalization") or self._by_length(node):
            return End("unit", _from_front(int(attribute(node, "axis", -1)), rank), node)
        if is_op(node, "Concat"):
            return self._joined(node, rank)
        if is_kind(node, "order", "measure") or is_op(node, "ArgMax", "ArgMin", "NonZero"):
            return End("order", None, node)
        return End("numbers", None, node)

    def _channel(self, name: str, node: NodeProto) -> int | None:
        """The axis of the channels of the layer in front of an activation."""
        before = self.of(name)
        return self._carried(node, 0, before.axis) if before.kind == "layer" else None

    def _joined(self, node: NodeProto, rank: int | None) -> End:
        """Parts of one kind are that kind; of different kinds packed, if not halves of a box."""
        parts = [self._part(name) for name in node.input if self.scope.constant(name) is None]
        axis = _from_front(int(attribute(node, "axis", 0)), rank)
        kinds = {part.kind for part in parts}
        if len(kinds) > 1 and kinds & {"sigmoid", "softmax", "order"}:
            box = "order" not in kinds and self._size(node.output[0], axis) == _COORDINATES
            return End("numbers" if box else "packed", axis, node)
        if len(kinds) == 1:
            axes = {part.axis for part in parts}
            return End(parts[0].kind, axes.pop() if len(axes) == 1 else None, node)
        return End("numbers", None, node)

    def _part(self, name: str) -> End:
        if name not in self.seen:
            self.seen[name] = End("unknown")
            self.seen[name] = self.of(name)
        return self.seen[name]

    def _by_length(self, node: NodeProto) -> bool:
        """Whether a tensor is divided by its own length."""
        if not is_op(node, "Div"):
            return False
        below = self.scope.producer(node.input[1])
        while below is not None and (
            is_kind(below, *KEEPS) or is_op(below, "Clip", "Max", "Expand", "Add", "Sqrt", "Pow")
        ):
            if is_op(below, "Sqrt", "Pow"):
                summed = self._behind_bounds(below.input[0])
                return summed is not None and is_op(summed, "ReduceSum", "ReduceSumSquare")
            below = self.scope.producer(below.input[0])
        return below is not None and is_op(below, "ReduceL2")

    def _behind_bounds(self, name: str) -> NodeProto | None:
        node = self.scope.producer(name)
        while node is not None and (is_kind(node, *KEEPS) or is_op(node, "Clip", "Max", "Add")):
            node = self.scope.producer(node.input[0])
        return node

    def _carried(self, node: NodeProto, index: int, axis: int | None) -> int | None:
        """The axis of a node's result along which what lies along ``axis`` of an input goes on.

        Where a view splits the axis, the inner part: that is how heads lay out anchors and
        classes.
        """
        if axis is None:
            return None
        loops = nest(self.scope, node, self.shapes)
        known, result = loops.inputs[index], loops.outputs[0]
        if known is None or result is None or axis >= len(known):
            return None
        inner = [piece.loops[-1] for piece in known[axis] if piece.loops]
        wanted = {loop for loop in inner if not _apart(loops.fixed.get(loop, ""))}
        found = [n for n, out in enumerate(result) if wanted & loops_of(out)]
        return found[0] if len(found) == 1 else None

    def _size(self, name: str, axis: int | None) -> Dim:
        info = self.shapes.get(name)
        return None if axis is None or info is None or info.shape is None else info.shape[axis]

    def _rank(self, name: str) -> int | None:
        info = self.shapes.get(name)
        return None if info is None or info.shape is None else len(info.shape)


def _is_arithmetic(node: NodeProto) -> bool:
    return is_op(node, "Add", "Mul", "Div", "Sub")


def _computed(
    node: NodeProto, value: float, other: NDArray[np.float64], index: int
) -> NDArray[np.float64]:
    """What arithmetic with a constant makes of a value that is its input number ``index``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        match node.op_type:
            case "Add":
                found = other + value
            case "Mul":
                found = other * value
            case "Sub":
                found = value - other if index == 0 else other - value
            case _:
                found = value / other if index == 0 else other / value
    return np.where(np.isnan(found), np.inf, found)


def _apart(reason: str) -> bool:
    """Whether a loop is fixed since nothing is known of it."""
    return "not told apart" in reason


def _from_front(axis: int, rank: int | None) -> int | None:
    if axis >= 0:
        return axis
    return None if rank is None else axis + rank


def sized_by_values(scope: Scope) -> set[str]:
    """Tensors behind a node whose result is as large as the values of the inputs say."""
    valued = {name for name in scope.inputs if scope.constant(name) is None}
    sized = set[str]()
    for node in scope.nodes:
        read = scope.reads(node)
        if is_kind(node, "measure"):
            continue
        row = find(node)
        if not valued.isdisjoint(read):
            valued.update(node.output)
            if row is not None and row.sized_by_values:
                sized.update(node.output)
        if not sized.isdisjoint(read):
            sized.update(node.output)
    return sized
