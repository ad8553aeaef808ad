"""Tensors of a model as numpy arrays: read one at a time, sizes checked before allocation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from numpy.typing import NDArray

from graphopt import outside
from graphopt.errors import ModelError, quoted
from graphopt.graph.beside import byte_count, file_beside

__all__ = [
    "Array",
    "check_length",
    "chunks",
    "element_bits",
    "element_count",
    "external_entries",
    "external_file",
    "file_chunks",
    "fill",
    "from_array",
    "from_file",
    "is_external",
    "point",
    "refer",
    "stored_bytes",
    "to_array",
    "walk",
]

Array = NDArray[Any]

_SUB_BYTE_BITS: dict[int, int] = {
    onnx.TensorProto.INT4: 4,
    onnx.TensorProto.UINT4: 4,
    onnx.TensorProto.FLOAT4E2M1: 4,
    onnx.TensorProto.INT2: 2,
    onnx.TensorProto.UINT2: 2,
}
_COMPLEX = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
_TYPED_FIELDS = (
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "double_data",
    "uint64_data",
)
_CHUNK_BYTES = 16 << 20
_WITHOUT_TENSORS = ("ValueInfoProto", "StringStringEntryProto", "OperatorSetIdProto", "TypeProto")


def element_count(tensor: onnx.TensorProto) -> int:
    """Number of elements that the dimensions of ``tensor`` ask for; 1 for a scalar.

    Raises:
        ModelError: A dimension is negative.
    """
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"tensor {tensor.name!r} has a negative dimension: {list(tensor.dims)}")
    return math.prod(tensor.dims)


def element_bits(data_type: int) -> int:
    """Bits that one element of an ONNX data type takes in a file; 0 for strings.

    Raises:
        ModelError: The installed onnx package does not know the type.
    """
    bits = _SUB_BYTE_BITS.get(data_type)
    if bits is not None:
        return bits
    if data_type == onnx.TensorProto.STRING:
        return 0
    try:
        return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8
    except KeyError as err:
        raise ModelError(f"element type {data_type} is unknown to onnx {onnx.__version__}") from err


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the values lie in a file beside the model."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def stored_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes that the values take, without reading external data."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(len(text) for text in tensor.string_data)
    return (element_count(tensor) * element_bits(tensor.data_type) + 7) // 8


def external_entries(tensor: onnx.TensorProto) -> dict[str, str]:
    """The key-value pairs of ``external_data``: location, offset, length, checksum."""
    return {entry.key: entry.value for entry in tensor.external_data}


def external_file(tensor: onnx.TensorProto, folder: Path | None) -> tuple[Path, int, int]:
    """File, offset and length in bytes of an external tensor's values.

    Raises:
        ModelError: The location is absolute, leaves ``folder`` (``..`` or a link), is missing,
            or the file is shorter than the tensor.
    """
    entries = external_entries(tensor)
    location = entries.get("location", "")
    where = f"external data of tensor {tensor.name!r}"
    if folder is None:
        raise ModelError(f"{where}: a model not read from a file has no folder; give its path")
    path = file_beside(location, folder, where)
    if tensor.data_type == onnx.TensorProto.STRING:
        raise ModelError(f"{where}: strings cannot lie outside the model")
    needed = stored_bytes(tensor)
    offset = byte_count(entries.get("offset", "0"), f"{where}: offset")
    length = byte_count(entries.get("length", str(needed)), f"{where}: length")
    if length != needed:
        raise ModelError(f"{where}: length {length} where its shape needs {needed}")
    held = path.stat().st_size
    if offset + length > held:
        raise ModelError(
            f"{where}: {quoted(location)} holds {held} bytes (truncated?), "
            f"{length} at offset {offset} are needed"
        )
    return path, offset, length


def to_array(tensor: onnx.TensorProto, folder: Path | None = None) -> Array:
    """The values of ``tensor`` with its shape; sub-byte and 8-bit floats as ml_dtypes.

    Args:
        tensor: Dense tensor, values inside or external.
        folder: The model's folder, for external data.

    Raises:
        ModelError: The stored values do not fit the shape, or external data is unusable.
    """
    if is_external(tensor):
        path, offset, _ = external_file(tensor, folder)
        return from_file(tensor, path, offset)
    check_length(tensor)
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as err:
        raise ModelError(f"tensor {tensor.name!r} cannot be read: {err}") from err


def from_file(tensor: onnx.TensorProto, path: Path, offset: int = 0) -> Array:
    """The values of ``tensor``, whose bytes lie at ``offset`` of a file, with its shape.

    Raises:
        ModelError: The file cannot be read or is too short.
    """
    length = stored_bytes(tensor)
    try:
        with outside.opened(path) as file:
            packed = np.fromfile(file, dtype=np.uint8, count=length, offset=offset)
    except OSError as err:
        raise ModelError(f"tensor {tensor.name!r}: {path} cannot be read: {err.strerror}") from err
    if packed.size != length:
        raise ModelError(f"tensor {tensor.name!r}: {path} is too short for {length} bytes")
    if element_bits(tensor.data_type) >= 8:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return packed.view(dtype).reshape(tuple(tensor.dims))
    inline = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    inline.raw_data = packed.tobytes()
    return to_array(inline)


def check_length(tensor: onnx.TensorProto) -> None:
    """Refuse an inline tensor whose dimensions ask for more or less than what is stored.

    Raises:
        ModelError: The stored bytes or values do not fit the dimensions, or the type is unknown.
    """
    needed = element_count(tensor)
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != stored_bytes(tensor):
            raise ModelError(
                f"tensor {tensor.name!r} holds {len(tensor.raw_data)} bytes "
                f"where its shape {list(tensor.dims)} needs {stored_bytes(tensor)}"
            )
        return
    field = _field_of(tensor.data_type)
    width = _SUB_BYTE_BITS.get(tensor.data_type, 8)
    per_element = 2 if tensor.data_type in _COMPLEX else 1
    held, expected = len(getattr(tensor, field)), -(-needed * per_element * width // 8)
    if held != expected:
        raise ModelError(
            f"tensor {tensor.name!r} holds {held or 'no'} values in {field} "
            f"where its shape {list(tensor.dims)} needs {expected}"
        )


def _field_of(data_type: int) -> str:
    """Where values of this type are stored that are not raw."""
    element_bits(data_type)
    return str(onnx.helper.tensor_dtype_to_field(data_type))


def chunks(tensor: onnx.TensorProto, folder: Path | None = None) -> Iterator[bytes]:
    """The bytes of ``tensor`` as raw data has them, in pieces of at most 16 MB if external.

    Raises:
        ModelError: The stored values do not fit the shape, or external data is unusable.
    """
    if is_external(tensor):
        path, offset, _ = external_file(tensor, folder)
        yield from file_chunks(tensor, path, offset)
    elif tensor.HasField("raw_data"):
        check_length(tensor)
        yield tensor.raw_data
    else:
        yield from_array(tensor.name, to_array(tensor)).raw_data


def file_chunks(tensor: onnx.TensorProto, path: Path, offset: int = 0) -> Iterator[bytes]:
    """The bytes of ``tensor``, which lie at ``offset`` of a file, in pieces.

    Raises:
        ModelError: The file cannot be read or is too short.
    """
    left = stored_bytes(tensor)
    try:
        with outside.opened(path) as file:
            file.seek(offset)
            while left:
                piece = file.read(min(left, _CHUNK_BYTES))
                if not piece:
                    raise ModelError(f"tensor {tensor.name!r}: {path} has become too short")
                left -= len(piece)
                yield piece
    except OSError as err:
        raise ModelError(f"tensor {tensor.name!r}: {path} cannot be read: {err.strerror}") from err


def fill(tensor: onnx.TensorProto, data: Iterable[bytes]) -> None:
    """Put these bytes, of the tensor's type and shape, inside a message that was external."""
    tensor.raw_data = b"".join(data)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def refer(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Make a tensor external: its values lie in ``location``, beside the model."""
    for field in ("raw_data", "external_data", *_TYPED_FIELDS):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def point(tensor: onnx.TensorProto, location: str) -> None:
    """Tell an external tensor the name of the file that its values lie in."""
    for entry in tensor.external_data:
        if entry.key == "location":
            entry.value = location


def walk(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor message anywhere in ``message``: initializers, attributes, functions, sparse."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None or descriptor.message_type.name in _WITHOUT_TENSORS:
            continue
        for item in (value,) if isinstance(value, Message) else value:
            yield from walk(item)


def from_array(name: str, values: Array) -> onnx.TensorProto:
    """A dense tensor with raw data, of the dtype and shape of ``values``."""
    tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape))
    tensor.name = name
    return tensor
