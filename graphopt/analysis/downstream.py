"""What becomes of the result of a layer before anything tells its values apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx import NodeProto

from graphopt.facts.axes import loops_of
from graphopt.facts.flats import EVERYWHERE
from graphopt.facts.layers import Layer
from graphopt.facts.operators import find, is_kind, nest
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Scope
from graphopt.graph.node import is_op
from graphopt.rewrite.edit import only_reader

__all__ = [
    "Downstream",
    "before_rounding",
    "downstream",
    "requantized",
    "result_of",
    "unpooled",
]


@dataclass(frozen=True)
class Downstream:
    """How the rest of the network sees the result of a layer.

    Attributes:
        total: The tensor that it becomes part of: itself, or the sum behind it, with Q and DQ
            between or not.
        beside: What is added to it there, in the same shape.
        low: Values of the total below this are told apart by nobody.
        high: Nor are those above this.
        norm: The BatchNormalization that it goes through first; None without one.
    """

    total: str
    beside: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    norm: NodeProto | None = None


def result_of(layer: Layer) -> str:
    """The tensor that a layer gives, its bias added."""
    place = layer.bias_place
    return str((layer.node if place is None else place[0]).output[0])


def downstream(scope: Scope, total: str, shapes: Shapes) -> Downstream:
    """What is added to the result of a layer, and what is flat behind it.

    Args:
        scope: The main graph.
        total: The result.
        shapes: Of the tensors of the graph.
    """
    beside: list[str] = []
    norm = None
    use = only_reader(scope, total)
    if use is not None and use.scope is scope and is_op(use.node, "BatchNormalization"):
        norm, total = use.node, use.node.output[0]
    while (use := only_reader(scope, requantized(scope, total) or total)) is not None:
        if use.scope is not scope:
            break
        others = _added(use.node, use.index, scope, shapes)
        if others is None:
            break
        beside += others
        total = use.node.output[0]
    return Downstream(total, tuple(beside), *_told_apart(scope, total), norm)


def requantized(scope: Scope, name: str) -> str | None:
    """What a tensor is behind Q and DQ, where nothing else reads it; None without these."""
    use = only_reader(scope, name)
    if use is None or not is_op(use.node, "QuantizeLinear") or use.index:
        return None
    back = only_reader(scope, use.node.output[0])
    if back is None or not is_op(back.node, "DequantizeLinear") or back.index:
        return None
    return str(back.node.output[0])


def _added(node: NodeProto, index: int, scope: Scope, shapes: Shapes) -> list[str] | None:
    """What a node adds to its input ``index``, all of one shape; None where it does not add."""
    row = find(node)
    if row is None or not row.adds:
        return None
    others = [name for at, name in enumerate(node.input) if at != index]
    size = shapes.get(node.input[index])
    for name in others:
        info = shapes.get(name)
        known = info is not None and size is not None and info.shape is not None
        if not known or info != size or scope.constant(name) is not None:
            return None
    return others


def _told_apart(scope: Scope, name: str) -> tuple[float, float]:
    """Between which values all that reads a tensor tells them apart."""
    if scope.is_output(name):
        return EVERYWHERE
    low, high = math.inf, -math.inf
    for use in scope.uses(name):
        if is_kind(use.node, "measure"):
            continue
        row = find(use.node)
        known = use.index == 0 and row is not None and row.flat is not None
        bounds = row.flat(use.scope, use.node) if known and row and row.flat else EVERYWHERE
        low, high = min(low, bounds[0]), max(high, bounds[1])
    return (low, high) if low <= high else EVERYWHERE


def unpooled(layer: Layer, shapes: Shapes) -> tuple[str, int] | None:
    """What a layer would read if the mean over all positions were taken behind it.

    A layer is linear, so it may as well be applied to each position: where it reads the mean over
    all of them, there are many more rows in front of the mean.

    Returns:
        The tensor in front of the mean and its axis of the channels; None where there is no mean.
    """
    scope, name = layer.scope, layer.data
    kernel = (layer.weight.shape or ())[2:]
    one = is_op(layer.node, "Conv") and layer.groups == 1 and math.prod(kernel) == 1
    if not (is_op(layer.node, "Gemm", "MatMul") or one):
        return None
    maker = _unquantized(scope, name)
    while maker is not None and is_kind(maker, "view") and scope.producer(maker.input[0]):
        maker = _unquantized(scope, maker.input[0])
    row = None if maker is None else find(maker)
    if maker is None or row is None or not row.averages:
        return None
    loops = nest(scope, maker, shapes)
    read, given = loops.inputs[0], loops.outputs[0]
    if read is None or given is None:
        return None
    shown = {loop for axis in given for loop in loops_of(axis)}
    axes = [at for at, axis in enumerate(read) if at and loops_of(axis) & shown]
    if len(axes) != 1:
        return None
    pooled = (maker.output[0], name)
    alone = all(_only_channels(shapes, each, layer.in_channels) for each in pooled)
    return (str(maker.input[0]), axes[0]) if alone else None


def _unquantized(scope: Scope, name: str) -> NodeProto | None:
    """The node that computes a tensor, in front of Q and DQ."""
    return scope.producer(before_rounding(scope, name) or name)


def before_rounding(scope: Scope, name: str) -> str | None:
    """What a tensor is in front of Q and DQ; None where it does not come out of these."""
    back = scope.producer(name)
    made = None if back is None else scope.producer(back.input[0])
    if back is None or made is None or not is_op(back, "DequantizeLinear"):
        return None
    return str(made.input[0]) if is_op(made, "QuantizeLinear") else None


def _only_channels(shapes: Shapes, name: str, channels: int) -> bool:
    """Whether a tensor has one value a sample and channel."""
    info = shapes.get(name)
    if info is None or info.shape is None:
        return False
    sizes = [dim for dim in info.shape[1:] if dim != 1]
    return sizes in ([channels], []) and (bool(sizes) or channels == 1)
