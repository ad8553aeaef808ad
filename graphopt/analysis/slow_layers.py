"""Layers that take longer on integers than in floats, by what a target's table says of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from onnx import NodeProto

from graphopt.facts.layers import Layer, Refusal
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Scope
from graphopt.graph.node import attribute, is_op
from graphopt.rewrite.quantized_activations import Placement
from graphopt.targets import Slow, Target

__all__ = ["Beside", "leave_alone", "slow_kind"]

_LOSES = "to quantize and dequantize around it takes longer than its integer kernel saves"


def slow_kind(found: Layer, slow: Slow) -> str:
    """Why a two-dimensional Conv is slower on integers than in floats; empty where it is not."""
    shape = found.weight.constant.shape
    if not is_op(found.node, "Conv") or len(shape) != 4:
        return ""
    width, slower = shape[found.in_axis], "its integer kernel is slower than the float one"
    if found.groups > 1:
        if width == 1:
            return f"depthwise; {slower}" if slow.depthwise else ""
        return f"{width} channels a group; {slower}" if width < slow.group else ""
    narrow = shape[2:] == (1, 1) and width < slow.pointwise
    return f"1x1 of {width} channels; {slower}" if narrow else ""


@dataclass(frozen=True)
class Beside:
    """What must be known of a layer's neighbours.

    Attributes:
        scope: Where the layers are.
        shapes: Of its tensors.
        target: How long its integers take.
        result: What the kernel of a layer writes.
        joins: Whether a node without a weight computes on integers beside those that do.
    """

    scope: Scope
    shapes: Shapes
    target: Target
    result: Callable[[NodeProto], str]
    joins: Callable[[NodeProto], bool]

    def loses(self, found: Layer, integer: set[int]) -> bool:
        """Whether a layer takes longer on integers than in floats, as things stand beside it."""
        target, written = self.target, self.result(found.node)
        stride = math.prod(attribute(found.node, "strides", [])) if found.kind == "conv" else 1
        elements, crossings, maker = 0, 0, self._maker(found.data)
        if maker is None or not self._stays(maker, integer):
            elements, crossings = found.in_channels * stride, 1
        readers = [use.node for use in self.scope.uses(written)]
        if not readers or not all(self._stays(each, integer) for each in readers):
            elements, crossings = elements + found.channels, crossings + 1
        positions = self._positions(found, written)
        saved = math.prod(found.weight.constant.shape) * positions * (1 - target.integer_time)
        return saved < elements * positions * target.crossing + crossings * target.overhead

    def _positions(self, found: Layer, written: str) -> int:
        """Positions of a result, of one sample; 1 where they are not known."""
        info = self.shapes.get(written)
        dims = () if info is None or info.shape is None else info.shape
        inner = dims[2:] if found.kind == "conv" else dims[1:-1]
        return math.prod(size for size in inner if isinstance(size, int))

    def _stays(self, node: NodeProto, integer: set[int]) -> bool:
        return id(node) in integer or self.joins(node)

    def _maker(self, tensor: str) -> NodeProto | None:
        """The node that computes a tensor, behind activations that its kernel swallows."""
        node = self.scope.producer(tensor)
        while node is not None and is_op(node, *self.target.activations):
            node = self.scope.producer(node.input[0])
        return node


def leave_alone(placement: Placement, beside: Beside) -> None:
    """Take layers out of a plan that lose more beside layers in floats than they save.

    What one loses may make its neighbours lose, so all are looked at until none does.

    Args:
        placement: The layers on integers so far; those that lose go to the refused ones.
        beside: What is known of neighbours.
    """
    while True:
        integer = {id(node) for node in placement.nodes}
        losing = [each for each in placement.layers if beside.loses(each, integer)]
        if not losing:
            return
        placement.refused += [Refusal(each.node, _LOSES) for each in losing]
        gone = {id(each.node) for each in losing}
        placement.layers = [each for each in placement.layers if id(each.node) not in gone]
