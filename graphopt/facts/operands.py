"""Constants as nodes read them: floats, codes behind a DequantizeLinear or behind Cast and Mul."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.errors import ModelError
from graphopt.graph.graph import Constant, Scope, Use
from graphopt.graph.node import attribute, is_op, label

__all__ = ["FLOATS", "Form", "Operand", "operand", "producer", "spread_over"]

FLOATS = (1, 10, 11, 16)
"""ONNX element types float, float16, double, bfloat16."""

Form = Literal["float", "dequantized", "expanded", "integer"]
"""How a constant is stored: as floats, of another width behind a Cast or not; as codes behind a
DequantizeLinear; as codes behind Cast and Mul, which a runtime computes once when it loads the
model; or as codes that the node itself reads."""

_SMALL = 1 << 20  # elements; scales spread over codes, they do not make a larger tensor
_FOLLOWED = 8  # nodes between a constant and its reader that are looked through


@dataclass(frozen=True, eq=False)
class Operand:
    """A constant that a node reads, in whatever form the file keeps it.

    Attributes:
        scope: Where the node is.
        node: Who reads it.
        index: Which of its inputs that is.
        form: How it is stored.
        constant: What is stored, floats or codes.
        path: What the nodes between read of it, from the constant on; Identity is left out.
    """

    scope: Scope
    node: NodeProto
    index: int
    form: Form
    constant: Constant
    path: tuple[Use, ...] = ()

    @property
    def order(self) -> tuple[int, ...] | None:
        """For each axis that the node sees the one of the constant; None behind a Reshape.

        Raises:
            ModelError: A Transpose between is for another number of axes.
        """
        order = tuple(range(len(self.constant.shape)))
        for use in self.path:
            if is_op(use.node, "Reshape"):
                return None
            if is_op(use.node, "Transpose"):
                perm = attribute(use.node, "perm", []) or range(len(order))[::-1]
                if sorted(perm) != list(range(len(order))):
                    raise self._unfit(use.node)
                order = tuple(order[axis] for axis in perm)
        return order

    @property
    def data_type(self) -> int:
        """ONNX element type that is read of floats: that of the last Cast, else the stored one."""
        casts = [use.node for use in self.path if is_op(use.node, "Cast")]
        return int(attribute(casts[-1], "to", 1)) if casts else self.constant.data_type

    @property
    def dtype(self) -> np.dtype[Any]:
        """The same as a type of numpy's."""
        return np.dtype(tensor_dtype_to_np_dtype(self.data_type))

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Dimensions that the node sees; None behind a Reshape."""
        order = self.order
        return None if order is None else tuple(self.constant.shape[axis] for axis in order)

    @property
    def turned(self) -> bool:
        """Whether the node sees other axes, or the same in other order, than are stored."""
        return self.order != tuple(range(len(self.constant.shape)))

    @property
    def dequantizer(self) -> Use | None:
        """The DequantizeLinear, or the Mul by a scale, that makes floats of codes."""
        scaling = (use for use in self.path if is_op(use.node, "DequantizeLinear", "Mul"))
        return next(scaling, None)

    @property
    def scale(self) -> Constant | None:
        """The scale of the codes; None where they have none or it is computed."""
        use = self.dequantizer
        return None if use is None else use.scope.constant(use.node.input[1 - use.index])

    @property
    def readers(self) -> list[Use]:
        """All that reads the constant, through what hands it on; -1: a body returns it.

        That is Identity and Transpose and, for floats, a Cast to floats.
        """
        return list(_readers(self.constant.scope, self.constant.origin, self.form == "float"))

    @property
    def given_out(self) -> bool:
        """Whether the constant, turned or not, is an output of the model or of a body."""
        return _given_out(self.constant.scope, self.constant.origin, self.form == "float")

    @property
    def alone(self) -> bool:
        """Whether no other place reads the constant and it is no output."""
        return len(self.readers) == 1 and not self.given_out

    def values(self) -> NDArray[Any]:
        """What the node reads, computed anew: ``(codes - zero point) * scale`` where quantized.

        Raises:
            ModelError: A node between cannot be computed from the constants that it reads.
        """
        values: NDArray[Any] = self.constant.values
        for use in self.path:
            try:
                values = _computed(use, values)
            except (ArithmeticError, LookupError, ValueError) as err:
                raise self._unfit(use.node) from err
        return values

    def _unfit(self, between: NodeProto) -> ModelError:
        shape = list(self.constant.shape)
        return ModelError(
            f"node {label(between)!r} does not fit {self.constant.name!r} of shape {shape}"
        )

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """What the node is to read, with its axes in the order of the constant's."""
        order = self.order
        assert order is not None
        return np.ascontiguousarray(values.transpose(np.argsort(order))) if self.turned else values


def operand(scope: Scope, node: NodeProto, index: int) -> Operand | None:
    """The constant that a node reads at ``index``, through all that expands or turns it.

    Returns:
        None where something else is read, or a constant that is neither floats nor codes.
    """
    if len(node.input) <= index or not node.input[index]:
        return None
    form: Form = "float"
    path: list[Use] = []
    home, name = scope, node.input[index]
    for _ in range(_FOLLOWED):
        constant = home.constant(name)
        if constant is not None:
            floats = constant.data_type in FLOATS
            known = form != "float" or floats
            between = tuple(reversed(path))
            if form == "expanded" and floats and all(map(_keeps_floats, between)):
                form = "float"
            return Operand(scope, node, index, form, constant, between) if known else None
        home, maker = producer(home, name)
        if maker is None:
            return None
        read = _carried(home, maker)
        if read is None:
            return None
        if is_op(maker, "DequantizeLinear"):
            form = "dequantized"
        elif is_op(maker, "Cast", "Mul") and form == "float":
            form = "expanded"
        if not is_op(maker, "Identity"):
            path.append(Use(home, maker, read))
        name = maker.input[read]
    return None


def _carried(scope: Scope, node: NodeProto) -> int | None:
    """Which input a node between a constant and its reader expands, turns or hands on, if any."""
    fixed = [scope.constant(name) is not None for name in node.input]
    if is_op(node, "Mul") and any(fixed):
        return 0 if fixed[1] else 1
    parameters = is_op(node, "DequantizeLinear", "Reshape") and all(fixed[1:])
    return 0 if parameters or is_op(node, "Cast", "Identity", "Transpose") else None


def producer(scope: Scope, name: str) -> tuple[Scope, NodeProto | None]:
    """Where ``name`` is computed, in this scope or around it, and by which node."""
    home: Scope | None = scope
    while home is not None:
        if home.defines(name):
            return home, home.producer(name)
        home = home.parent
    return scope, None


def _computed(use: Use, values: NDArray[Any]) -> NDArray[Any]:
    """What a node of a path makes of the values that it reads at ``use``.

    Raises:
        ArithmeticError, LookupError, ValueError: They do not fit the node.
    """
    node, constant = use.node, use.scope.constant
    if is_op(node, "Transpose"):
        return values.transpose(attribute(node, "perm", []) or None)
    if is_op(node, "Cast"):
        return values.astype(tensor_dtype_to_np_dtype(attribute(node, "to", 1)))
    other = constant(node.input[1 - use.index])
    assert other is not None, "a path has constant parameters"
    if is_op(node, "Mul"):
        scale = other.values
        made = math.prod(np.broadcast_shapes(values.shape, scale.shape))
        if made > max(values.size, scale.size, _SMALL):
            raise ValueError(f"a product of {made} elements")
        return np.asarray(values * scale)
    if is_op(node, "Reshape"):
        sizes = [int(size) for size in other.values.reshape(-1)]
        kept = [values.shape[at] if size == 0 else size for at, size in enumerate(sizes)]
        return values.reshape(sizes if attribute(node, "allowzero", 0) else kept)
    zero = constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    centred = values.astype(np.float64)  # exact for codes of up to 32 bits
    if zero is not None:
        centred = centred - spread_over(node, zero.values.astype(np.float64), values.shape)
    scale = other.values
    return np.asarray(centred.astype(scale.dtype) * spread_over(node, scale, values.shape))


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


def _keeps_floats(use: Use) -> bool:
    """Whether a node of a path turns floats or gives them another width."""
    return is_op(use.node, "Reshape", "Transpose") or _widens(use.node)


def _widens(node: NodeProto) -> bool:
    return is_op(node, "Cast") and attribute(node, "to", 0) in FLOATS


def _readers(scope: Scope, name: str, floats: bool) -> Iterator[Use]:
    for use in scope.uses(name):
        if _hands_on(use, floats):
            yield from _readers(use.scope, use.node.output[0], floats)
        else:
            yield use


def _given_out(scope: Scope, name: str, floats: bool) -> bool:
    uses = scope.uses(name)
    return (
        scope.is_output(name)
        or any(use.index < 0 for use in uses)
        or any(
            _hands_on(use, floats) and _given_out(use.scope, use.node.output[0], floats)
            for use in uses
        )
    )


def _hands_on(use: Use, floats: bool) -> bool:
    """Whether a node hands a constant on as it is, turned, or as floats of another width."""
    moved = is_op(use.node, "Identity", "Transpose") or (floats and _widens(use.node))
    return use.index >= 0 and moved
