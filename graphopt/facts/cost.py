"""What a model costs: parameters, multiply-accumulates, bytes, zeros.

Definitions. A *parameter* is an element of a constant that holds weights: floats of any width,
integers of 8 bits or less, and wider integers that are dequantized or are the bias of an integer
operator. Scales and zero points of quantization are none, shapes, axes and indices neither.
Constants of initializers, Constant nodes, bodies and functions count alike, shared ones once; of
sparse ones every element counts. A *MAC* is one multiplication with its addition in a
convolution, matrix product or recurrent layer; bias, pooling and elementwise operators count
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto

from graphopt.facts.operands import FLOATS
from graphopt.facts.operators import find
from graphopt.facts.shapes import Dim, Shapes, infer
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import attribute, is_op
from graphopt.graph.tensors import Array
from graphopt.graph.unfold import inlined

__all__ = ["Zeros", "node_macs", "params", "sparsity", "total_macs", "zeros"]

_FLOATS = ("FLOAT", "DOUBLE", "BFLOAT")
_WIDE_INTEGERS = (TensorProto.INT32, TensorProto.INT16, TensorProto.UINT16)
_SMALL_INTEGERS = ("INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2")


@dataclass(frozen=True)
class Zeros:
    """Zeros among weights."""

    count: int
    of: int

    @property
    def share(self) -> float:
        """0 to 1; 0 where there are no weights."""
        return self.count / self.of if self.of else 0.0


def params(graph: Graph) -> int:
    """Number of parameters, as the module defines them."""
    return sum(math.prod(constant.shape) for constant in _weights(graph))


def sparsity(graph: Graph) -> float:
    """Share of zeros among the parameters of rank 2 or more, 0 to 1; 0.0 without any."""
    return zeros(graph).share


def zeros(graph: Graph, *, masked: bool = False) -> Zeros:
    """Zeros among the parameters of rank 2 or more.

    An integer weight is zero where it equals its zero point. Weights are read one at a time.

    Args:
        graph: The model.
        masked: Count the zeros of those float weights only of which a tenth or more is zero.

    Raises:
        ModelError: External data cannot be read any more.
    """
    count = total = 0
    for constant in _weights(graph):
        if len(constant.shape) >= 2:
            values = constant.values
            found = int(np.count_nonzero(values == _zero(constant, values)))
            total += values.size
            if not masked or (constant.data_type in FLOATS and 10 * found >= values.size):
                count += found
    return Zeros(count, total)


def _weights(graph: Graph) -> Iterator[Constant]:
    """Every constant that holds parameters, each once."""
    for scope in inlined(graph).scopes():
        held = [Constant(n, scope, n, None, tensor) for n, tensor in scope.initializers.items()]
        for sparse in scope.proto.sparse_initializer:
            name = sparse.values.name
            held.append(Constant(name, scope, name, None, sparse.values, sparse))
        for node in scope.nodes:
            constant = scope.constant(node.output[0]) if is_op(node, "Constant") else None
            if constant is not None:
                held.append(constant)
        yield from (constant for constant in held if _is_weight(constant))


def _is_weight(constant: Constant) -> bool:
    uses = constant.scope.uses(constant.origin)
    rows = [(use.index, find(use.node)) for use in uses]
    values = [index in row.codes for index, row in rows if row is not None and row.codes]
    if values and len(values) == len(uses) and not any(values):
        return False  # nothing but a scale or zero point
    kind = TensorProto.DataType.Name(constant.data_type)
    if kind.startswith(_FLOATS) or kind in _SMALL_INTEGERS:
        return True
    return constant.data_type in _WIDE_INTEGERS and any(values)


def _zero(constant: Constant, values: Array) -> Array:
    """What stands for zero in a constant's values, in a shape that broadcasts to them."""
    for use in constant.scope.uses(constant.origin):
        row = find(use.node)
        at = dict(row.zeros).get(use.index) if row is not None else None
        if at is None or len(use.node.input) <= at or not use.node.input[at]:
            continue
        zero = use.scope.constant(use.node.input[at])
        if zero is None:
            continue
        point = zero.values
        if point.size <= 1:
            return point.reshape(())
        axis = attribute(use.node, "axis", 0 if "Conv" in use.node.op_type else 1) % values.ndim
        if point.ndim == 1 and point.size == values.shape[axis]:
            return point.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        if point.ndim == values.ndim and values.shape[axis] % point.shape[axis] == 0:  # blocks
            return np.repeat(point, values.shape[axis] // point.shape[axis], axis)
    return np.zeros((), values.dtype)


def node_macs(scope: Scope, node: NodeProto, shapes: Shapes) -> int | None:
    """MACs of one run of a node, its bodies not included.

    Dimensions of unknown size count as 1 in matrix products and recurrent layers, and so does an
    unknown batch of a convolution: the figure is then one sample's, or one position's.

    Returns:
        0 for operators without any; None where a shape that is needed is unknown.
    """
    row = find(node)
    if row is None or row.factors is None:
        return 0
    if "Conv" in row.name:
        name = node.input[0] if is_op(node, "ConvTranspose") else node.output[0]
        over = _sizes(scope, name, shapes, spatial=True)
        weight = _sizes(scope, node.input[row.factors[1]], shapes)
        return None if over is None or weight is None else math.prod(over) * math.prod(weight[1:])
    if row.kind == "recurrent":
        parts = [_sizes(scope, name, shapes) for name in node.input[:3]]
        steps, weight, recurrent = parts
        if steps is None or weight is None or recurrent is None:
            return None
        return math.prod(steps[:2]) * (math.prod(weight) + math.prod(recurrent))
    return _product_macs(scope, node, shapes, *row.factors)


def _product_macs(
    scope: Scope, node: NodeProto, shapes: Shapes, left: int, right: int
) -> int | None:
    """Elements of the result times the length of the sums."""
    result = _sizes(scope, node.output[0], shapes)
    a = _dims(scope, node.input[left], shapes)
    b = _dims(scope, node.input[right], shapes)
    if node.op_type == "MatMulNBits":
        depth: Dim = attribute(node, "K", 0)
    else:
        depth = None
        if a:
            depth = a[-2 if attribute(node, "transA", 0) else -1]
        if b and not isinstance(depth, int):
            turned = attribute(node, "transB", 0) or len(b) == 1
            depth = b[-1 if turned else -2]
    if result is None or (not a and not b and depth is None):
        return None
    return math.prod(result) * (depth if isinstance(depth, int) else 1)


def _dims(scope: Scope, name: str, shapes: Shapes) -> tuple[Dim, ...] | None:
    constant = scope.constant(name)
    if constant is not None:
        return constant.shape
    info = shapes.get(name)
    return None if info is None else info.shape


def _sizes(
    scope: Scope, name: str, shapes: Shapes, *, spatial: bool = False
) -> tuple[int, ...] | None:
    """Dimensions with 1 for each unknown one; ``spatial`` allows that for the first only."""
    dims = _dims(scope, name, shapes)
    if dims is None or (spatial and not all(isinstance(dim, int) for dim in dims[1:])):
        return None
    return tuple(dim if isinstance(dim, int) else 1 for dim in dims)


def total_macs(graph: Graph, shapes: Shapes) -> int | None:
    """MACs of one run of the model, as far as they can be counted.

    Of the branches of an If the costlier one counts; the body of a Loop or Scan counts once,
    since the number of its rounds is not known. What calls of local functions stand for counts.

    Returns:
        0 for a model without multiplications; None where it has some and none can be counted.
    """
    whole = inlined(graph)
    if whole is not graph:
        shapes = infer(whole, {name: info for name in shapes if (info := shapes.get(name))})
    counts = list(_counts(whole.main, shapes))
    known = [count for count in counts if count is not None]
    return sum(known) if known or not counts else None


def _counts(scope: Scope, shapes: Shapes) -> Iterator[int | None]:
    """One entry for each node that multiplies, and for each with such nodes in its bodies."""
    for node in scope.nodes:
        own = node_macs(scope, node, shapes)
        if own != 0:
            yield own
        bodies = [list(_counts(body, shapes)) for body in scope.children(node).values()]
        if any(bodies):
            known = [[n for n in counts if n is not None] for counts in bodies]
            yield max(sum(counts) for counts in known) if any(known) else None
