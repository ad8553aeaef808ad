"""The layers of a graph: which nodes have a weight, and which of their inputs it is."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnx import NodeProto, TensorProto

from graphopt.facts.einsum import Unspelled, weight_axes
from graphopt.facts.layer import Kind, Layer, Need, Refusal
from graphopt.facts.operands import Operand, operand, picks_centres
from graphopt.facts.operators import Operator, find, is_kind
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import attribute, is_op

__all__ = [
    "Kind",
    "Layer",
    "Need",
    "Refusal",
    "float_layers",
    "layer",
    "layers",
    "layers_of",
    "open_layers",
    "picked_axis",
    "picks_rows",
]

_CODES = (
    *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4),
    *(TensorProto.INT2, TensorProto.UINT2),
)
_CONSTANT = "its input is constant; fold-constants computes it once"


def float_layers(graph: Graph | Scope) -> Iterator[Layer]:
    """Each Conv, ConvTranspose, MatMul and Gemm whose weight is stored as floats, in order."""
    for each in layers(graph):
        if isinstance(each, Layer) and each.multiplies and each.refusal("float") is None:
            yield each


def open_layers(graph: Graph | Scope) -> Iterator[Layer]:
    """The same with those whose weight is stored in 8 bits: all that can be made integer."""
    for each in layers(graph):
        if not isinstance(each, Layer) or not each.multiplies:
            continue
        if each.refusal("float") is None or each.refusal("codable") is None:
            yield each


def layers(graph: Graph | Scope) -> Iterator[Layer | Refusal]:
    """The layers of a graph with its bodies, or of a single scope, in order of the nodes.

    A Refusal stands for an operator that can have a weight where it has none to use.
    """
    for scope in graph.scopes() if isinstance(graph, Graph) else [graph]:
        for node in list(scope.nodes):
            yield from layers_of(scope, node)


def layer(scope: Scope, node: NodeProto) -> Layer | Refusal | None:
    """The layer that a node is, or why it is none; None for operators without a weight."""
    return next(layers_of(scope, node), None)


def layers_of(scope: Scope, node: NodeProto) -> Iterator[Layer | Refusal]:
    """The layers that one node is; a Refusal where its weight or groups cannot be those of one."""
    for each in _read_off(scope, node):
        unfit = _unfit(each) if isinstance(each, Layer) else ""
        yield Refusal(node, unfit) if unfit else each


def _unfit(each: Layer) -> str:
    """Why a layer cannot be one; empty where it can."""
    order = each.weight.order
    if each.groups < 1:
        return f"it has {each.groups} groups"
    if not (math.isfinite(each.alpha) and math.isfinite(each.beta)):
        return f"its alpha is {each.alpha} and its beta {each.beta}"
    if order is not None and len(order) <= max(each.read_axes):
        return f"its weight of shape {list(each.weight.dims)} has too few axes"
    return ""


def _read_off(scope: Scope, node: NodeProto) -> Iterator[Layer | Refusal]:
    if is_op(node, "MatMul", "Gemm"):
        yield _product(scope, node)
    elif is_op(node, "Conv", "ConvTranspose"):
        yield _convolution(scope, node)
    elif is_op(node, "Einsum"):
        yield from _contractions(scope, node)
    elif is_op(node, "Gather", "Slice") and not picks_centres(scope, node):
        table = operand(scope, node, 0) or _codes(scope, node, 0)
        rank = 0 if table is None else len(table.dims)
        axis = picked_axis(scope, node, 0)
        if table is not None and rank >= 2 and axis is not None:
            yield Layer(scope, node, "table", table, (axis % rank, rank - 1))
    elif is_kind(node, "recurrent"):
        for index in (1, 2):
            weight = operand(scope, node, index)
            if weight is not None:
                yield Layer(scope, node, "recurrent", weight, (1, 2))
    else:
        row = find(node)
        if row is not None and row.coded is not None:
            yield _integer(scope, node, row, *row.coded)


def picked_axis(scope: Scope, node: NodeProto, index: int) -> int | None:
    """The axis along which a Gather or Slice picks entries of the table at input ``index``.

    Returns:
        None for other nodes, and for a Slice that cuts along several axes or not known ones; from
        the last axis back where it is negative.
    """
    if index != 0 or not is_op(node, "Gather", "Slice"):
        return None
    if is_op(node, "Gather"):
        return int(attribute(node, "axis", 0))
    axes = scope.constant(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    return int(axes.values.item()) if axes is not None and math.prod(axes.shape) == 1 else None


def picks_rows(node: NodeProto, index: int) -> bool:
    """Whether input ``index`` of ``node`` is a table whose rows a Gather looks up."""
    return is_op(node, "Gather") and index == 0 and attribute(node, "axis", 0) == 0


def _convolution(scope: Scope, node: NodeProto) -> Layer | Refusal:
    weight = operand(scope, node, 1)
    if weight is None:
        return Refusal(node, "its weight is not a float constant")
    if _fixed(operand(scope, node, 0)):
        return Refusal(node, _CONSTANT)
    groups = attribute(node, "group", 1)
    axes = (0, 1) if is_op(node, "Conv") else (1, 0)
    return Layer(scope, node, "conv", weight, axes, _third(scope, node), groups)


def _product(scope: Scope, node: NodeProto) -> Layer | Refusal:
    left, right = operand(scope, node, 0), operand(scope, node, 1)
    weight = left if right is None or (_fixed(left) and not _fixed(right)) else right
    if weight is None:
        if any(scope.constant(name) is not None for name in node.input[:2]):
            return Refusal(node, "its weight is not a float constant")
        return Refusal(node, "both operands are computed, so there is no weight")
    if _fixed(left) and _fixed(right):
        return Refusal(node, _CONSTANT)
    rank = len(weight.order or (0, 1))
    if rank < 2:
        return Refusal(node, "its constant operand is a vector, no matrix")
    if is_op(node, "MatMul"):
        axes = (rank - 1, rank - 2) if weight.index == 1 else (rank - 2, rank - 1)
        one = Layer(scope, node, "linear", weight, axes)
        return Layer(scope, node, "linear", weight, axes, _added(one))
    plain = not attribute(node, "transB" if weight.index == 1 else "transA", 0)
    axes = (1, 0) if plain is (weight.index == 1) else (0, 1)
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    return Layer(scope, node, "linear", weight, axes, _third(scope, node), alpha=alpha, beta=beta)


def _contractions(scope: Scope, node: NodeProto) -> Iterator[Layer | Refusal]:
    """A layer for each constant operand of an Einsum that also has data."""
    operands = [operand(scope, node, index) for index in range(len(node.input))]
    weights = [each for each in operands if each is not None]
    if len(weights) == len(operands):
        yield Refusal(node, "all its operands are constants")
    elif not weights:
        if any(scope.constant(name) is not None for name in node.input):
            yield Refusal(node, "its weight is not a float constant")
        else:
            yield Refusal(node, "all its operands are computed, so there is no weight")
    for weight in weights if len(weights) < len(operands) else ():
        rank = len(weight.order or (0, 1))
        if rank < 2:
            yield Refusal(node, "its constant operand is a vector, no matrix")
            continue
        try:
            axes = weight_axes(attribute(node, "equation", ""), weight.index, rank)
        except Unspelled as err:
            yield Refusal(node, str(err))
        else:
            yield Layer(scope, node, "contraction", weight, axes)


def _third(scope: Scope, node: NodeProto) -> Operand | None:
    """The constant that a node adds, where it reads it as it is stored."""
    bias = operand(scope, node, 2)
    return None if bias is None or bias.turned else bias


def _added(one: Layer) -> Operand | None:
    """What an Add that alone reads the result of a MatMul adds to each channel."""
    scope, result = one.scope, one.node.output[0]
    uses = scope.uses(result)
    if len(uses) != 1 or uses[0].scope is not scope or scope.is_output(result):
        return None
    if one.weight.order is None:
        return None
    if one.weight.index != 1 or not is_op(uses[0].node, "Add"):
        return None
    bias = operand(scope, uses[0].node, 1 - uses[0].index)
    return bias if bias is not None and bias.constant.shape == (one.out_channels,) else None


def _integer(
    scope: Scope, node: NodeProto, row: Operator, index: int, out_axis: int, in_axis: int
) -> Layer | Refusal:
    weight = _codes(scope, node, index)
    if weight is None:
        return Refusal(node, "its weight is not a constant of codes")
    out_axis, in_axis = (axis % len(weight.constant.shape) for axis in (out_axis, in_axis))
    if attribute(node, "transB", 0):
        out_axis, in_axis = in_axis, out_axis
    groups = attribute(node, "group", 1)
    kind: Kind = "conv" if "Conv" in node.op_type else "linear"
    kind = "recurrent" if row.recurrent else "table" if row.looks_up else kind
    return Layer(scope, node, kind, weight, (out_axis, in_axis), groups=groups)


def _codes(scope: Scope, node: NodeProto, index: int) -> Operand | None:
    """Integers that a node reads as they are stored."""
    constant = scope.constant(node.input[index]) if len(node.input) > index else None
    if constant is None or constant.data_type not in _CODES or not constant.shape:
        return None
    return Operand(scope, node, index, "integer", constant)


def _fixed(found: Operand | None) -> bool:
    return found is not None and not found.constant.overridable
