"""Values known at build time, wherever a file keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import NodeProto, TensorProto

from graphopt.graph import tensors
from graphopt.graph.tensors import Array

if TYPE_CHECKING:
    from graphopt.graph.scope import Scope

__all__ = ["Constant", "constant_tensor"]


@dataclass(frozen=True)
class Constant:
    """A value known at build time, wherever the file keeps it.

    ``name`` is the tensor that the reader asked for; ``scope`` and ``origin`` say where it lives:
    an initializer of that name, or the output of a Constant node.
    """

    name: str
    scope: Scope
    origin: str
    node: NodeProto | None
    tensor: TensorProto

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions; empty for a scalar."""
        return tuple(self.tensor.dims)

    @property
    def data_type(self) -> int:
        """ONNX element type (``TensorProto.DataType``)."""
        return int(self.tensor.data_type)

    @property
    def nbytes(self) -> int:
        """Bytes that the values take in a file."""
        return tensors.stored_bytes(self.tensor)

    @property
    def overridable(self) -> bool:
        """Whether it is an initializer listed as an input, so that a caller may replace it."""
        return self.node is None and self.scope.is_input(self.origin)

    @property
    def values(self) -> Array:
        """The array, read anew at each access (external data is not kept)."""
        return self.scope.graph.read(self.tensor)


def constant_tensor(node: NodeProto) -> TensorProto | None:
    """The value of a Constant node as a tensor; None for sparse values and references."""
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            return None
        if attribute.name == "value":
            tensor: TensorProto = attribute.t
            return tensor
        if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
            value = onnx.helper.get_attribute_value(attribute)
            kind = TensorProto.FLOAT if "float" in attribute.name else TensorProto.INT64
            listed = list(value) if attribute.name.endswith("s") else [value]
            dims = [len(listed)] if attribute.name.endswith("s") else []
            return onnx.helper.make_tensor(node.output[0], kind, dims, listed)
    return None
