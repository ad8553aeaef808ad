"""Model files: read with external data left where it is, written whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import ModelProto

from graphopt import outside
from graphopt.errors import ModelError
from graphopt.graph import check, tensors, wire
from graphopt.graph.graph import Graph
from graphopt.graph.save import save

__all__ = ["file_bytes", "load", "save", "sha256", "size", "whole"]

MESSAGE_LIMIT = 2**31 - 1
_MOBILE_MARK = b"ORTM"  # where FlatBuffers has the identifier of a file
"""Protocol buffers cannot be longer; larger models need external data."""


def load(model: str | Path | bytes | ModelProto) -> Graph:
    """A graph to edit; what was handed in is never modified.

    Weights in external files are checked to be there, and read when somebody asks for them.

    Args:
        model: A file, its bytes, or a message.

    Raises:
        ModelError: No such file, not an ONNX model, truncated, a node lacks inputs or outputs, or
            its external data is missing, too short, or lies outside the model's folder.
    """
    if isinstance(model, ModelProto):
        return _sound(model, "the model", None, take_over=False)
    if isinstance(model, bytes):
        return _parsed(model, "the model (given as bytes)", None)
    path = Path(model)
    return _parsed(_read(path), str(path), path.parent)


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"{path} is a folder; give the ONNX file in it")
    try:
        length = outside.regular(path).st_size
        if length > MESSAGE_LIMIT:
            raise ModelError(
                f"{path} is not an ONNX model: {length} bytes in one file, 2 GB are the most; "
                "larger models keep their weights in external data"
            )
        with outside.opened(path) as file:
            return file.read(length)
    except FileNotFoundError as err:
        raise ModelError(f"{path}: no such file") from err
    except OSError as err:
        raise ModelError(f"{path} cannot be read: {err.strerror}") from err


def _parsed(data: bytes, name: str, folder: Path | None) -> Graph:
    if data[4:8] == _MOBILE_MARK:
        raise ModelError(
            f"{name} is in onnxruntime's mobile format (.ort), which only onnxruntime reads; "
            "give the ONNX file that it was made of"
        )
    message = ModelProto()
    try:
        message.ParseFromString(data)
    except DecodeError as err:
        raise ModelError(f"{name} {wire.diagnose(data)}") from err
    if not message.HasField("graph") or (message.ir_version >= 3 and not message.opset_import):
        raise ModelError(f"{name} {wire.diagnose(data)}")
    del data
    return _sound(message, name, folder, take_over=True)


def _sound(message: ModelProto, name: str, folder: Path | None, *, take_over: bool) -> Graph:
    """The graph; refused, before any work is put in, if it is wrong in itself."""
    try:
        graph = Graph(message, folder, take_over=take_over)
        check.refuse_unsound(graph)
    except ModelError as err:
        raise ModelError(f"{name} is not valid: {err}") from err
    if folder is not None and graph.came_external:
        graph.data_files = frozenset(
            folder / tensors.external_entries(tensor)["location"]
            for tensor in graph.tensors()
            if tensors.is_external(tensor)
        )
    return graph


def whole(graph: Graph) -> ModelProto:
    """The model as one message, all weights inside.

    Raises:
        ModelError: More than 2 GB.
    """
    if graph.weight_bytes > MESSAGE_LIMIT - (16 << 20):
        raise ModelError(f"the weights take {graph.weight_bytes} bytes, 2 GB fit in one message")
    model = graph.to_model()
    for tensor in tensors.walk(model):
        if tensors.is_external(tensor):
            tensors.fill(tensor, graph.chunks(tensor))
    return model


def size(graph: Graph) -> int:
    """Bytes that the graph takes as a file, external data included; exact to a few bytes."""
    total: int = graph.header.ByteSize()
    for scope in graph.scopes():
        total += sum(_framed(node.ByteSize()) for node in scope.nodes)
        total += sum(_framed(tensor.ByteSize()) for tensor in scope.initializers.values())
        total += sum(_framed(value.ByteSize()) for value in scope.value_infos)
    return total + sum(map(tensors.stored_bytes, filter(tensors.is_external, graph.tensors())))


def _framed(length: int) -> int:
    """Bytes of a message inside another one: a tag, its length as a varint, itself."""
    return 1 + max(1, -(-length.bit_length() // 7)) + length


def sha256(path: Path) -> str:
    """Hash of the model file itself, hexadecimal."""
    with outside.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_bytes(graph: Graph, path: Path) -> int:
    """Bytes of the file that a graph was read from and of the external files that it names.

    Raises:
        ModelError: An external file is not where it should be.
    """
    external = {
        tensors.external_file(tensor, graph.folder)[0].resolve()
        for tensor in graph.tensors()
        if tensors.is_external(tensor)
    }
    return path.stat().st_size + sum(file.stat().st_size for file in external)
