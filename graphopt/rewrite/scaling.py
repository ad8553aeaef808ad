"""Divides the channels of a tensor: in the constants that it is made from, or by a Mul."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.facts.layers import Layer, layer
from graphopt.facts.operators import find, is_kind
from graphopt.graph.graph import Constant, Scope
from graphopt.graph.node import attribute, is_op
from graphopt.rewrite import edit, qdq
from graphopt.rewrite.values import drop_unread

__all__ = ["divide_rows", "fold_division", "insert_division"]

_AXES_ARE_INPUTS = 18  # opset from which ReduceMax takes its axes as an input
_LEAST_PEAK = 1e-30
_Edit = Callable[[], None]
_FOLLOWED = 16  # nodes between the tensor and the constants that absorb the factors


def insert_division(
    scope: Scope, tensor: str, factors: NDArray[np.float32], readers: Collection[NodeProto]
) -> None:
    """Let ``readers`` see ``tensor`` divided by ``factors`` along its last axis, by a Mul.

    Args:
        scope: Where the tensor and all readers are.
        tensor: Its last axis has as many elements as ``factors``.
        factors: Above zero, ``(channels,)``.
        readers: Nodes that shall read the divided tensor.
    """
    reciprocal = scope.add_constant(f"{tensor}_smoothing", np.float32(1) / factors)
    chosen = {id(node) for node in readers}
    uses = [use for use in scope.uses(tensor) if id(use.node) in chosen]
    first = min(readers, key=scope.index.rank)
    name = qdq.add_node(scope, "Mul", [tensor, reciprocal], f"{tensor}_smoothed", before=first)
    edit.redirect(uses, name)


def divide_rows(scope: Scope, tensor: str, layers: Collection[NodeProto]) -> None:
    """Let layers see each row of ``tensor`` over its largest value, and multiply what they give.

    A row is what lies along the last axis; one of zeros stays. Exact up to rounding.

    Args:
        scope: Where the tensor and all layers are.
        tensor: Of rank 1 or more.
        layers: Nodes of one output that are linear in each row, without a bias of their own.
    """
    first = min(layers, key=scope.index.rank)
    sizes = qdq.add_node(scope, "Abs", [tensor], f"{tensor}_size", before=first)
    inputs, attributes = [sizes], {"axes": [-1]}
    if scope.graph.opset >= _AXES_ARE_INPUTS:
        inputs.append(scope.add_constant(f"{tensor}_axis", np.array([-1], np.int64)))
        attributes = {}
    peaks = qdq.add_node(
        scope, "ReduceMax", inputs, f"{tensor}_peak", before=first, keepdims=1, **attributes
    )
    least = scope.add_constant(f"{tensor}_least", np.array(_LEAST_PEAK, np.float32))
    peak = qdq.add_node(scope, "Max", [peaks, least], f"{tensor}_row_scale", before=first)
    rows = qdq.add_node(scope, "Div", [tensor, peak], f"{tensor}_rows", before=first)
    chosen = {id(node) for node in layers}
    edit.redirect([use for use in scope.uses(tensor) if id(use.node) in chosen], rows)
    for node in layers:
        result = node.output[0]
        inner = scope.graph.unique_name(f"{result}_rows")
        scope.set_output(node, 0, inner)
        times = onnx.helper.make_node("Mul", [inner, peak], [result], name=f"{inner}_scaled")
        scope.index.insert((times,), scope.index.position(node) + 1)


def fold_division(
    scope: Scope, tensor: str, factors: NDArray[np.float32], readers: Collection[NodeProto]
) -> bool:
    """Divide a tensor for all its readers, in the constants that it is made from.

    It works behind a layer normalization of any kind, a Mul, Div or Add with a constant vector, a
    MatMul or Gemm with a constant weight, with Relu or a Reshape in between, and through a product
    of two computed tensors, such as a gated unit has it, into either. Scalars are left alone: they
    are parts of patterns, such as Gelu, that a runtime fuses.

    Args:
        scope: Where the tensor and all readers are.
        tensor: Its last axis has as many elements as ``factors``.
        factors: Above zero, ``(channels,)``.
        readers: Nodes that shall read the divided tensor; with any other reader it fails.

    Returns:
        False, with nothing edited, where it fails.
    """
    edits: list[_Edit] = []
    if not _plan(scope, tensor, factors, readers, edits, _FOLLOWED):
        return False
    for apply in edits:
        apply()
    return True


def _plan(
    scope: Scope,
    tensor: str,
    factors: NDArray[np.float32],
    readers: Collection[NodeProto],
    edits: list[_Edit],
    left: int,
) -> bool:
    """Collect the edits that divide ``tensor``; False where there is no way."""
    node = scope.producer(tensor)
    if _others_read(scope, tensor, readers) or scope.is_output(tensor) or node is None or left == 0:
        return False
    row = find(node)
    if row is not None and row.scales:
        return _divide_norm(scope, node, tensor, row.scales, factors, edits)
    if row is not None and row.homogeneous:
        # f(x / s) = f(x) / s for s > 0. Operators that only reshape keep the order of the elements;
        # where the last axis has as many before and after, which the size of the constant found in
        # the end proves, each keeps its channel.
        return _plan(scope, node.input[0], factors, [node], edits, left - 1)
    if is_op(node, "Mul", "Div", "Add", "Sub"):
        return _divide_elementwise(scope, node, factors, edits, left)
    found = layer(scope, node)
    return isinstance(found, Layer) and _divide_linear(found, factors, edits)


def _others_read(scope: Scope, tensor: str, readers: Collection[NodeProto]) -> bool:
    """Whether some node other than ``readers`` reads the values of ``tensor``."""
    known = {id(node) for node in readers}
    return any(
        id(use.node) not in known and not is_kind(use.node, "measure") for use in scope.uses(tensor)
    )


def _divide_norm(
    scope: Scope,
    node: NodeProto,
    tensor: str,
    places: Collection[int],
    factors: NDArray[np.float32],
    edits: list[_Edit],
) -> bool:
    """In scale and shift, ``places``, of a normalization whose first output ``tensor`` is."""
    if node.output[0] != tensor or attribute(node, "axis", -1) != -1:
        return False
    indices = [index for index in places if len(node.input) > index and node.input[index]]
    return bool(indices) and all(
        _divide_constant(scope, node, index, factors, edits) for index in indices
    )


def _divide_elementwise(
    scope: Scope, node: NodeProto, factors: NDArray[np.float32], edits: list[_Edit], left: int
) -> bool:
    """Through an operator of two, such as ``x * c`` with a constant vector ``c``, or ``x * y``."""
    constants = [index for index in (0, 1) if scope.constant(node.input[index]) is not None]
    if not constants:
        return _divide_product(scope, node, factors, edits, left)
    if len(constants) != 1 or (is_op(node, "Div", "Sub") and constants == [0]):
        return False
    index = constants[0]
    divisors = np.float32(1) / factors if is_op(node, "Div") else factors
    if not _divide_constant(scope, node, index, divisors, edits):
        return False
    if is_op(node, "Mul", "Div"):
        return True
    return _plan(scope, node.input[1 - index], factors, [node], edits, left - 1)


def _divide_product(
    scope: Scope,
    node: NodeProto,
    factors: NDArray[np.float32],
    edits: list[_Edit],
    left: int,
) -> bool:
    """Into one factor of ``x * y``, the later one first; into ``x`` of ``x / y``."""
    if node.input[0] == node.input[1] or is_op(node, "Add", "Sub"):
        return False
    for index in (1, 0) if is_op(node, "Mul") else (0,):
        planned: list[_Edit] = []
        if _plan(scope, node.input[index], factors, [node], planned, left - 1):
            edits += planned
            return True
    return False


def _divide_linear(layer: Layer, factors: NDArray[np.float32], edits: list[_Edit]) -> bool:
    """The columns of a weight, and the bias of a Gemm."""
    node = layer.node
    usable = layer.kind == "linear" and not layer.refusal("right", "float32", "matrix", "fixed")
    if not usable or layer.out_channels != len(factors) or not layer.owned_by([node]):
        return False
    if layer.adds and not _divide_constant(layer.scope, node, 2, factors, edits):
        return False
    edits.append(lambda: layer.scale("out", np.float32(1) / factors))
    return True


def _divide_constant(
    scope: Scope,
    node: NodeProto,
    index: int,
    divisors: NDArray[np.float32],
    edits: list[_Edit],
) -> bool:
    """Give input ``index`` of ``node`` a constant vector of its own, divided."""
    constant = scope.constant(node.input[index])
    if constant is None or constant.overridable or not _is_vector(constant, len(divisors)):
        return False
    values: NDArray[Any] = constant.values
    if values.dtype != np.float32:
        return False

    def replace() -> None:
        name = scope.add_constant(constant.name, values / divisors)
        scope.set_input(node, index, name)
        drop_unread(constant.scope, [constant.origin])

    edits.append(replace)
    return True


def _is_vector(constant: Constant, channels: int) -> bool:
    shape = constant.shape
    return channels > 1 and bool(shape) and shape[-1] == channels == int(np.prod(shape))
