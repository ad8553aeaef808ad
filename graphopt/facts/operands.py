"""Constants as nodes read them: floats, or codes behind the nodes that make floats of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto
from onnx.helper import np_dtype_to_tensor_dtype, tensor_dtype_to_np_dtype

from graphopt.errors import ModelError
from graphopt.facts.expansion import carried, computed, parameter
from graphopt.facts.spread import producer, spread_constant
from graphopt.graph.graph import Constant, Scope, Use
from graphopt.graph.node import attribute, is_op, label

__all__ = ["FLOATS", "Form", "Operand", "operand", "picks_centres"]

FLOATS = (1, 10, 11, 16)
"""ONNX element types float, float16, double, bfloat16."""

Form = Literal["float", "dequantized", "expanded", "codebook", "integer"]
"""How a constant is stored: as floats, of another width behind a Cast or not; as codes behind a
DequantizeLinear; as codes behind Cast and Mul, with a Sub of zero points between or not, which a
runtime computes once when it loads the model; as codes, packed or not, that pick centres from a
codebook, computed once as well; or as codes that the node itself reads."""

_UNSIGNED = (TensorProto.UINT8, TensorProto.UINT4, TensorProto.UINT2)
_FOLLOWED = 16  # nodes between a constant and its reader that are looked through


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
        """For each axis that the node sees the one of ``dims``; None behind a Reshape.

        Raises:
            ModelError: A Transpose between is for another number of axes.
        """
        order = tuple(range(len(self.dims)))
        for use in self.path[self._unpacked :]:
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
        kind = self.constant.data_type
        for use in self.path:
            if is_op(use.node, "Cast"):
                kind = int(attribute(use.node, "to", 1))
            elif is_op(use.node, "Gather") and use.index == 1:
                table = parameter(use.scope, use.node.input[0])
                assert table is not None, "a Gather on a path has a constant table"
                kind = np_dtype_to_tensor_dtype(table.dtype)
        return kind

    @property
    def dtype(self) -> np.dtype[Any]:
        """The same as a type of numpy's."""
        return np.dtype(tensor_dtype_to_np_dtype(self.data_type))

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Dimensions that the node sees; None behind a Reshape."""
        order = self.order
        dims = self.dims
        return None if order is None else tuple(dims[axis] for axis in order)

    @property
    def dims(self) -> tuple[int, ...]:
        """How the values are laid out: as the constant is or, for packed codes, as they unpack."""
        if not self._unpacked:
            return self.constant.shape
        use = self.path[self._unpacked - 1]
        sizes = parameter(use.scope, use.node.input[1])
        assert sizes is not None, "a Reshape on a path has constant sizes"
        return tuple(int(size) for size in sizes.reshape(-1))

    @property
    def _unpacked(self) -> int:
        """How many nodes of the path unpack codes: up to the Reshape to the weight's own shape."""
        if self.form != "codebook":
            return 0
        shaped = [at + 1 for at, use in enumerate(self.path) if is_op(use.node, "Reshape")]
        return shaped[-1] if shaped else 0

    @property
    def turned(self) -> bool:
        """Whether the node sees other axes, or the same in other order, than are stored."""
        return self.order != tuple(range(len(self.constant.shape)))

    @property
    def dequantizer(self) -> Use | None:
        """The DequantizeLinear, or the Mul by a scale, that makes floats of codes."""
        scaling = [use for use in self.path if is_op(use.node, "DequantizeLinear", "Mul")]
        if self.form == "codebook":
            return scaling[-1] if scaling else None
        return scaling[0] if scaling else None

    @property
    def scale(self) -> Constant | None:
        """The scale of the codes as it is stored; None where they have none or it is computed."""
        use = self.dequantizer
        found = None if use is None else spread_constant(use.scope, use.node, 1 - use.index)
        return None if found is None else found.constant

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
                values = computed(use, values)
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
            known = floats if form == "float" else not (floats and _centred(path))
            if form == "codebook":
                known = constant.data_type in _UNSIGNED
            between = tuple(reversed(path))
            if form == "expanded" and floats and all(map(_keeps_floats, between)):
                form = "float"
            return Operand(scope, node, index, form, constant, between) if known else None
        home, maker = producer(home, name)
        if maker is None:
            return None
        read = carried(home, maker)
        if read is None or (is_op(maker, "ReduceSum") and form != "codebook"):
            return None
        if is_op(maker, "DequantizeLinear"):
            form = "dequantized"
        elif is_op(maker, "Gather"):
            form = "codebook"
        elif is_op(maker, "Cast", "Mul", "Sub") and form == "float":
            form = "expanded"
        if not is_op(maker, "Identity"):
            path.append(Use(home, maker, read))
        name = maker.input[read]
    return None


def picks_centres(scope: Scope, node: NodeProto) -> bool:
    """Whether a node is a Gather that constant codes pick rows of a constant by."""
    codes = operand(scope, node, 1) if is_op(node, "Gather") else None
    return codes is not None and codes.constant.data_type in _UNSIGNED


def _keeps_floats(use: Use) -> bool:
    """Whether a node of a path turns floats or gives them another width."""
    return is_op(use.node, "Reshape", "Transpose") or _widens(use.node)


def _centred(path: Sequence[Use]) -> bool:
    """Whether something is subtracted on the way, as zero points are from codes."""
    return any(is_op(use.node, "Sub") for use in path)


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
