"""What a model takes, in the form that samples are checked against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto

from graphopt.errors import DataError
from graphopt.graph.graph import Graph

__all__ = ["Input", "model_inputs"]


@dataclass(frozen=True)
class Input:
    """One input of a model.

    Attributes:
        name: Its name.
        data_type: ``TensorProto.DataType``.
        shape: Fixed sizes, names of free axes, None for nameless ones; None for unknown rank.
        required: Whether a caller must feed it; False where an initializer gives a default.
    """

    name: str
    data_type: int
    shape: tuple[int | str | None, ...] | None
    required: bool = True

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        """As numpy (and ml_dtypes) has it; ``object`` for strings."""
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.data_type))

    @property
    def type_name(self) -> str:
        """The element type as people write it: ``float32``, ``string``."""
        return "string" if self.data_type == TensorProto.STRING else self.dtype.name

    @property
    def batch(self) -> int | None:
        """Size of the first axis where the model fixes it."""
        first = self.shape[0] if self.shape else None
        return first if isinstance(first, int) else None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.type_name} of any shape"
        return f"{self.type_name}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"


def model_inputs(graph: Graph) -> list[Input]:
    """The inputs of the main graph in order, those with a default included.

    Raises:
        DataError: An input that must be fed is a sequence, map or other non-tensor.
    """
    required = {value.name for value in graph.required_inputs}
    found = []
    for value in graph.main.proto.input:
        if value.type.HasField("tensor_type"):
            found.append(_input(value, value.name in required))
        elif value.name in required:
            kind = (value.type.WhichOneof("value") or "untyped").removesuffix("_type")
            raise DataError(f"input {value.name!r} is of type {kind}; DATA can only hold tensors")
    return found


def _input(value: onnx.ValueInfoProto, required: bool) -> Input:
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(_axis(dim) for dim in tensor.shape.dim)
    return Input(value.name, tensor.elem_type, shape, required)


def _axis(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.dim_value > 0:  # exporters write 0 and -1 for a free axis
        return int(dim.dim_value)
    return dim.dim_param or None
