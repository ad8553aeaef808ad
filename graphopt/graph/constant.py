"""Values known at build time, wherever a file keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import AttributeProto, NodeProto, SparseTensorProto, TensorProto

from graphopt.graph import tensors
from graphopt.graph.node import is_op, set_attributes
from graphopt.graph.sparse_tensors import dense_values, make_sparse, sparse_bytes
from graphopt.graph.tensors import Array

if TYPE_CHECKING:
    from graphopt.graph.scope import Scope

__all__ = ["Constant", "constant_behind", "constant_tensor", "constants_of"]

_FOLLOWED = 8  # Identity nodes between a constant and its reader that are looked through


@dataclass(frozen=True)
class Constant:
    """A value known at build time, wherever the file keeps it.

    ``name`` is the tensor that the reader asked for; ``scope`` and ``origin`` say where it lives:
    an initializer of that name, or the output of a Constant node. ``sparse`` is how it is stored
    where that is sparse; ``tensor`` then holds the elements that are not zero.
    """

    name: str
    scope: Scope
    origin: str
    node: NodeProto | None
    tensor: TensorProto
    sparse: SparseTensorProto | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions; empty for a scalar."""
        return tuple(self.tensor.dims if self.sparse is None else self.sparse.dims)

    @property
    def data_type(self) -> int:
        """ONNX element type (``TensorProto.DataType``)."""
        return int(self.tensor.data_type)

    @property
    def nbytes(self) -> int:
        """Bytes that the values take in a file."""
        indices = 0 if self.sparse is None else tensors.stored_bytes(self.sparse.indices)
        return tensors.stored_bytes(self.tensor) + indices

    @property
    def overridable(self) -> bool:
        """Whether it is an initializer listed as an input, so that a caller may replace it."""
        return self.node is None and self.scope.is_input(self.origin)

    @property
    def values(self) -> Array:
        """The array, read anew at each access (external data is not kept)."""
        if self.sparse is not None:
            return dense_values(self.scope.graph, self.sparse)
        return self.scope.graph.read(self.tensor)

    def set(self, values: Array) -> None:
        """Put other values where it lives; all readers see them, this object keeps the old ones.

        An initializer that is stored sparse stays so where that is smaller.
        """
        if self.node is None and self.sparse is not None:
            self.scope.drop_sparse(self.origin)
            if values.any() and sparse_bytes(values) < values.nbytes:
                self.scope.add_sparse(make_sparse(self.scope.graph, self.origin, values))
                _retype(self.scope, self.origin, values)
                return
        tensor = self.scope.graph.store(self.origin, values)
        if self.node is None:
            self.scope.initializers[self.origin] = tensor
        else:
            set_attributes(self.node, [a.name for a in self.node.attribute], value=tensor)
        _retype(self.scope, self.origin, values)


def _retype(scope: Scope, name: str, values: Array) -> None:
    """Make declared types fit a constant's new values: its own and those behind Identity."""
    data_type = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    kind = onnx.helper.make_tensor_type_proto(data_type, list(values.shape))
    if scope.is_input(name):
        for declared in scope.proto.input:
            if declared.name == name:
                declared.type.CopyFrom(kind)
    scope.value_infos.retype(name, kind)
    for use in scope.uses(name):
        if is_op(use.node, "Identity"):
            _retype(use.scope, use.node.output[0], values)


def constant_behind(scope: Scope, name: str) -> Constant | None:
    """The constant that ``name`` is in ``scope``, see ``Scope.constant``."""
    asked = name
    for _ in range(_FOLLOWED):
        home: Scope | None = scope
        while home is not None and not home.defines(name):
            home = home.parent
        if home is None:
            return None
        if name in home.initializers:
            return Constant(asked, home, name, None, home.initializers[name])
        node = home.producer(name)
        if node is None:
            sparse = home.sparse(name)
            return sparse and Constant(asked, home, name, None, sparse.values, sparse)
        if is_op(node, "Constant"):
            return _made(asked, home, node)
        if not is_op(node, "Identity"):
            return None
        name, scope = node.input[0], home
    return None


def _made(asked: str, home: Scope, node: NodeProto) -> Constant | None:
    """The value of a Constant node."""
    value, name = next(iter(node.attribute), None), node.output[0]
    if value is not None and value.type == AttributeProto.SPARSE_TENSOR:
        sparse = value.sparse_tensor
        return Constant(asked, home, name, node, sparse.values, sparse)
    tensor = constant_tensor(node)
    return None if tensor is None else Constant(asked, home, name, node, tensor)


def constant_tensor(node: NodeProto) -> TensorProto | None:
    """The value of a Constant node as a tensor; None for sparse values, texts and references.

    As in onnxruntime it is what the first attribute holds, by its type.
    """
    value = next(iter(node.attribute), None)
    if value is None or value.ref_attr_name:
        return None
    if value.type == AttributeProto.TENSOR:
        tensor: TensorProto = value.t
        return tensor
    if value.type not in _NUMBERS:
        return None
    held = onnx.helper.get_attribute_value(value)
    listed = value.type in (AttributeProto.FLOATS, AttributeProto.INTS)
    numbers = list(held) if listed else [held]
    dims = [len(numbers)] if listed else []
    return onnx.helper.make_tensor(node.output[0], _NUMBERS[value.type], dims, numbers)


_NUMBERS: dict[int, int] = {
    AttributeProto.FLOAT: TensorProto.FLOAT,
    AttributeProto.FLOATS: TensorProto.FLOAT,
    AttributeProto.INT: TensorProto.INT64,
    AttributeProto.INTS: TensorProto.INT64,
}
"""Element types of constants that are given as plain numbers."""


def constants_of(scope: Scope) -> Iterator[Constant]:
    """Every constant that lives in this very scope: initializers, then Constant nodes."""
    sparse = [each.values.name for each in scope.proto.sparse_initializer]
    made = [node.output[0] for node in scope.nodes if is_op(node, "Constant")]
    for name in (*scope.initializers, *sparse, *made):
        constant = scope.constant(name)
        if constant is not None:
            yield constant
