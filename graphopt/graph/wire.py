"""Why bytes are not an ONNX model, read off their outermost protobuf fields."""

from __future__ import annotations

from onnx import ModelProto

__all__ = ["diagnose"]

_VARINT, _DELIMITED = 0, 2
_WIRE_TYPES = {
    field.number: _VARINT if field.cpp_type == field.CPPTYPE_INT64 else _DELIMITED
    for field in ModelProto.DESCRIPTOR.fields  # all others are texts and messages
}
_NOT_ONNX = "is not an ONNX model"
_LFS_POINTER = b"version https://git-lfs"


def diagnose(data: bytes) -> str:
    """What is wrong with a file, as the rest of a sentence that starts with its name."""
    if not data:
        return "is empty"
    if data.startswith(_LFS_POINTER):
        return "is a Git LFS pointer, not the model itself; fetch it with: git lfs pull"
    at, seen = 0, set[int]()
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if _WIRE_TYPES.get(number) != kind:
            return _NOT_ONNX
        value, at = _varint(data, at)
        at += value if kind == _DELIMITED else 0
        if at > len(data):
            return f"is truncated: {at - len(data)} bytes are missing" if seen else _NOT_ONNX
        seen.add(number)
    if ModelProto.GRAPH_FIELD_NUMBER not in seen:
        return "is not an ONNX model, or is truncated: it holds no graph"
    if ModelProto.OPSET_IMPORT_FIELD_NUMBER not in seen:
        return "is not a complete ONNX model: it names no operator set (truncated?)"
    return "is damaged: its graph cannot be parsed"


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at ``at`` and where it ends; behind the end if it is cut off."""
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    return value, len(data) + 1
