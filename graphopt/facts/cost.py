"""What a model holds: parameters and zeros.

Definitions. A *parameter* is an element of a constant that holds weights: floats of any width,
integers of 8 bits or less, and wider integers that are dequantized or are the bias of an integer
operator. Scales and zero points of quantization are none, codebooks, shapes, axes and indices
neither. Packed codes count as the weights that they unpack to.
Constants of initializers, Constant nodes, bodies and functions count alike, shared ones once; of
sparse ones every element counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from graphopt.facts.codebooks import CodebookWeights, codebook_weights
from graphopt.facts.operands import FLOATS, operand
from graphopt.facts.operators import find
from graphopt.facts.packed import packed_codes, packed_dims
from graphopt.graph.constant import constants_of
from graphopt.graph.graph import Constant, Graph, Use
from graphopt.graph.node import attribute, is_op
from graphopt.graph.tensors import Array
from graphopt.graph.unfold import inlined

__all__ = [
    "Zeros",
    "held_dims",
    "parameter_constants",
    "params",
    "scales_codes",
    "sparsity",
    "zeros",
]

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
    graph = inlined(graph)
    coded = codebook_weights(graph)
    return sum(math.prod(held_dims(constant, coded)) for constant in parameter_constants(graph))


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
    graph = inlined(graph)
    coded = codebook_weights(graph)
    for constant in parameter_constants(graph):
        weight = coded.of(constant)
        if len(held_dims(constant, coded)) >= 2:
            if weight is None:
                values, zero = packed_codes(constant) or _with_zero(constant)
            else:
                values, zero = weight.values(), np.zeros(())
            found = int(np.count_nonzero(values == zero))
            total += values.size
            if not masked or (constant.data_type in FLOATS and 10 * found >= values.size):
                count += found
    return Zeros(count, total)


def parameter_constants(graph: Graph) -> Iterator[Constant]:
    """Every constant that holds parameters, each once."""
    graph = inlined(graph)
    coded = codebook_weights(graph)
    for scope in graph.scopes():
        for constant in constants_of(scope):
            if _is_weight(constant) and not coded.helps(constant):
                yield constant


def held_dims(constant: Constant, coded: CodebookWeights) -> tuple[int, ...]:
    """Dimensions of the weights that a constant holds, packed or not."""
    weight = coded.of(constant)
    return packed_dims(constant) or constant.shape if weight is None else weight.dims


def _is_weight(constant: Constant) -> bool:
    uses = constant.scope.uses(constant.origin)
    rows = [(use.index, find(use.node)) for use in uses]
    values = [index in row.codes for index, row in rows if row is not None and row.codes]
    if values and len(values) == len(uses) and not any(values):
        return False  # nothing but a scale or zero point
    if uses and all(scales_codes(use) for use in uses):
        return False
    kind = TensorProto.DataType.Name(constant.data_type)
    if kind.startswith(_FLOATS) or kind in _SMALL_INTEGERS:
        return True
    return constant.data_type in _WIDE_INTEGERS and any(values)


def scales_codes(use: Use, steps: int = 4) -> bool:
    """Whether a constant is the scale or the zero point of codes, cast and spread or not."""
    scope, node = use.scope, use.node
    if use.index < 0:
        return False
    if steps and use.index == 0 and is_op(node, "Cast", "Expand", "Reshape", "Slice"):
        behind = scope.uses(node.output[0])
        return bool(behind) and all(scales_codes(each, steps - 1) for each in behind)
    row = find(node)
    if row is not None and row.codes:
        return use.index not in row.codes
    if is_op(node, "Sub") and use.index == 0:
        return False
    codes = operand(scope, node, 1 - use.index) if is_op(node, "Mul", "Sub") else None
    return codes is not None and codes.form == "expanded" and codes.constant.data_type not in FLOATS


def _with_zero(constant: Constant) -> tuple[Array, Array]:
    values = constant.values
    return values, _zero(constant, values)


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
