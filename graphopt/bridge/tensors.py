"""Arrays of a model as torch tensors, and back."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch
from onnx import TensorProto

from graphopt.errors import ModelError
from graphopt.graph.tensors import Array

__all__ = ["FLOATS", "SUB_BYTE", "answer_from", "dtype_of", "from_torch", "to_tensor"]

_DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.BOOL: torch.bool,
    TensorProto.COMPLEX64: torch.complex64,
    TensorProto.COMPLEX128: torch.complex128,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    TensorProto.INT4: torch.int8,
    TensorProto.UINT4: torch.uint8,
    TensorProto.INT2: torch.int8,
    TensorProto.UINT2: torch.uint8,
}
"""What torch lacks below eight bits is held in eight."""

SUB_BYTE: dict[int, tuple[int, int]] = {
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT2: (-2, 1),
    TensorProto.UINT2: (0, 3),
}
"""Least and largest value of the integer types below eight bits."""

_VIEWED: dict[str, tuple[type[np.generic], torch.dtype]] = {
    "bfloat16": (np.int16, torch.bfloat16),
    "float8_e4m3fn": (np.uint8, torch.float8_e4m3fn),
    "float8_e4m3fnuz": (np.uint8, torch.float8_e4m3fnuz),
    "float8_e5m2": (np.uint8, torch.float8_e5m2),
    "float8_e5m2fnuz": (np.uint8, torch.float8_e5m2fnuz),
}
_WIDENED = {"int4": np.int8, "uint4": np.uint8, "int2": np.int8, "uint2": np.uint8}
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def dtype_of(data_type: int) -> torch.dtype:
    """The torch dtype for an ONNX element type.

    Raises:
        ModelError: torch has no such type (text, 4-bit floats).
    """
    if data_type not in _DTYPES:
        known = data_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(data_type) if known else str(data_type)
        raise ModelError(f"element type {name} cannot be computed in torch")
    return _DTYPES[data_type]


def to_tensor(values: Array) -> torch.Tensor:
    """A tensor with a copy of ``values``; 4-bit integers in 8 bits.

    Raises:
        ModelError: torch has no such type.
    """
    kind = values.dtype.name
    if kind in _VIEWED:
        carrier, dtype = _VIEWED[kind]
        raw = torch.from_numpy(np.array(values, order="C").reshape(-1).view(carrier))
        return raw.view(dtype).reshape(values.shape)
    if kind in _WIDENED:
        return torch.from_numpy(values.astype(_WIDENED[kind]))
    if values.dtype.kind not in "fiubc":
        raise ModelError(f"values of type {values.dtype} cannot be computed in torch")
    return torch.from_numpy(np.array(values, order="C"))


def from_torch(tensor: torch.Tensor) -> Array:
    """The values of a tensor as an array on the CPU, with ml_dtypes where numpy lacks the type."""
    held = tensor.detach().cpu().contiguous()
    for name, (carrier, dtype) in _VIEWED.items():
        if held.dtype == dtype:
            raw = held.view(torch.int16 if carrier is np.int16 else torch.uint8)
            return np.asarray(raw.numpy().view(np.dtype(getattr(ml_dtypes, name))))
    return np.asarray(held.numpy())


def answer_from(tensor: torch.Tensor) -> Array:
    """An output's values as a session of onnxruntime gives them: bfloat16 as float32."""
    return from_torch(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
