"""What the nodes between a stored constant and its reader do: turn, expand and unpack it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.facts.spread import producer, spread_constant
from graphopt.graph.graph import Constant, Scope, Use
from graphopt.graph.node import attribute, is_op

__all__ = ["carried", "computed", "constants_behind", "parameter", "spread_over"]

_SMALL = 1 << 20  # elements; scales spread over codes, they do not make a larger tensor
_FOLLOWED = 8  # nodes between constants and what they make together


def constants_behind(scope: Scope, name: str, steps: int = _FOLLOWED) -> list[Constant] | None:
    """The constants that alone make a tensor, through operators that ``parameter`` computes.

    Returns:
        None where something else has a part in it.
    """
    constant = scope.constant(name)
    if constant is not None:
        return [constant]
    home, node = producer(scope, name)
    if not steps or node is None or not is_op(node, *_COMPUTED):
        return None
    found: list[Constant] = []
    for each in node.input:
        more = constants_behind(home, each, steps - 1)
        if more is None:
            return None
        found += more
    return found


def parameter(scope: Scope, name: str) -> NDArray[Any] | None:
    """The values that a node reads where constants alone make them; None of anything else.

    That is a constant, be it behind a Cast, and what bits unpack to and count up to: by a Gather
    from a table, a Reshape, a CumSum.

    Raises:
        ArithmeticError, LookupError, ValueError: Constants do not fit each other.
    """
    constant = scope.constant(name)
    if constant is not None:
        return constant.values
    if constants_behind(scope, name) is None:
        return None
    home, node = producer(scope, name)
    assert node is not None
    read = [values for each in node.input if (values := parameter(home, each)) is not None]
    return _COMPUTED[node.op_type](node, *read)


def _cast(node: NodeProto, values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(tensor_dtype_to_np_dtype(attribute(node, "to", 1)))


def _gather(node: NodeProto, table: NDArray[Any], indices: NDArray[Any]) -> NDArray[Any]:
    return table.take(indices, axis=attribute(node, "axis", 0))


def _reshape(_node: NodeProto, values: NDArray[Any], shape: NDArray[Any]) -> NDArray[Any]:
    return values.reshape([int(size) for size in shape.reshape(-1)])


def _cumsum(node: NodeProto, values: NDArray[Any], axis: NDArray[Any]) -> NDArray[Any]:
    sums = np.cumsum(values, axis=int(axis.item()), dtype=values.dtype)
    return sums - values if attribute(node, "exclusive", 0) else sums


_COMPUTED: dict[str, Callable[..., NDArray[Any]]] = {
    "Cast": _cast,
    "Gather": _gather,
    "Reshape": _reshape,
    "CumSum": _cumsum,
}
"""What ``parameter`` computes, by operator."""


def carried(scope: Scope, node: NodeProto) -> int | None:
    """Which input a node between a constant and its reader expands, turns or hands on, if any."""
    if is_op(node, "Cast", "Identity", "Transpose"):
        return 0
    if is_op(node, "Mul"):
        return _multiplied(scope, node)
    if is_op(node, "Gather"):
        return _picking(scope, node)
    if is_op(node, "Reshape"):
        return 0 if all(scope.constant(name) is not None for name in node.input[1:]) else None
    if is_op(node, "DequantizeLinear", "Sub"):
        others = [at for at in range(1, len(node.input)) if node.input[at]]
        return 0 if all(spread_constant(scope, node, at) is not None for at in others) else None
    if is_op(node, "ReduceSum"):
        return 0 if _summed_axis(scope, node) is not None else None
    return None


def _multiplied(scope: Scope, node: NodeProto) -> int | None:
    """Which factor of a Mul is what it scales: the other is constant, or floats cast and spread.

    Or it is made of bits, the second one, by which values are zero or not.
    """
    for other in (1, 0):
        if scope.constant(node.input[other]) is not None:
            return 1 - other
    for other in (1, 0):
        spread = spread_constant(scope, node, other)
        behind = constants_behind(scope, node.input[other], 1) if spread is None else None
        first = behind[0] if behind else spread and spread.constant
        if first and np.issubdtype(tensor_dtype_to_np_dtype(first.data_type), np.floating):
            return 1 - other
    return 0 if constants_behind(scope, node.input[1]) is not None else None


def _picking(scope: Scope, node: NodeProto) -> int | None:
    """Which input of a Gather is computed from what is stored: its indices, from a constant table.

    Or the table, where constant bits count up to the indices.
    """
    if attribute(node, "axis", 0) != 0 or scope.constant(node.input[1]) is not None:
        return None
    _, counted = producer(scope, node.input[1])
    if counted is not None and is_op(counted, "CumSum"):
        return 0 if constants_behind(scope, node.input[1]) is not None else None
    return 1 if constants_behind(scope, node.input[0], 1) is not None else None


def _summed_axis(scope: Scope, node: NodeProto) -> int | None:
    """The one constant axis along which a ReduceSum adds up."""
    axes = attribute(node, "axes", [])
    if len(node.input) > 1 and node.input[1]:
        constant = scope.constant(node.input[1])
        axes = [] if constant is None else constant.values.reshape(-1).tolist()
    return int(axes[0]) if len(axes) == 1 else None


def computed(use: Use, values: NDArray[Any]) -> NDArray[Any]:
    """What a node of a path makes of the values that it reads at ``use``.

    Raises:
        ArithmeticError, LookupError, ValueError: They do not fit the node.
    """
    node, scope = use.node, use.scope
    if is_op(node, "Transpose"):
        return values.transpose(attribute(node, "perm", []) or None)
    if is_op(node, "Cast"):
        return values.astype(tensor_dtype_to_np_dtype(attribute(node, "to", 1)))
    if is_op(node, "ReduceSum"):
        axis = _summed_axis(scope, node)
        keeps = bool(attribute(node, "keepdims", 1))
        return np.asarray(values.sum(axis=axis, keepdims=keeps, dtype=values.dtype))
    spread = spread_constant(scope, node, 1 - use.index)
    other = parameter(scope, node.input[1 - use.index]) if spread is None else spread.values()
    assert other is not None, "a path has constant parameters"
    if is_op(node, "Gather"):
        table, indices = (values, other) if use.index == 0 else (other, values)
        if indices.size and (indices.min() < -len(table) or indices.max() >= len(table)):
            raise IndexError("a code beyond the codebook")
        return np.asarray(table[indices])
    if is_op(node, "Mul", "Sub"):
        made = math.prod(np.broadcast_shapes(values.shape, other.shape))
        if made > max(values.size, other.size, _SMALL):
            raise ValueError(f"a product of {made} elements")
        return np.asarray(values * other if is_op(node, "Mul") else values - other)
    if is_op(node, "Reshape"):
        sizes = [int(size) for size in other.reshape(-1)]
        kept = [values.shape[at] if size == 0 else size for at, size in enumerate(sizes)]
        return values.reshape(sizes if attribute(node, "allowzero", 0) else kept)
    point = spread_constant(scope, node, 2)
    centred = values.astype(np.float64)  # exact for codes of up to 32 bits
    if point is not None:
        centred = centred - spread_over(node, point.values().astype(np.float64), values.shape)
    return np.asarray(centred.astype(other.dtype) * spread_over(node, other, values.shape))


def spread_over(node: NodeProto, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A scale or zero point of a DequantizeLinear in a shape that broadcasts to the codes.

    Raises:
        ValueError: Its shape, or the size of the blocks, does not fit the codes.
    """
    if values.size == 1:
        return values.reshape(())
    axis = attribute(node, "axis", 1) % max(1, len(shape))
    block = attribute(node, "block_size", 0)
    if block > 0 and values.ndim == len(shape):
        if values.shape[axis] == -(-shape[axis] // block):
            return np.repeat(values, block, axis).take(range(shape[axis]), axis)
    elif block == 0 and values.shape == shape[axis : axis + 1]:
        return values.reshape([-1 if at == axis else 1 for at in range(len(shape))])
    raise ValueError(f"scales of shape {values.shape} for codes of shape {shape}")
