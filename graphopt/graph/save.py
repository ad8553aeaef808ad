"""Writing a model file and its external data: whole or not at all."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import EncodeError
from onnx import ModelProto, TensorProto

from graphopt.atomic import Staged
from graphopt.errors import SystemFailure, UsageError
from graphopt.graph import own_data, tensors
from graphopt.graph.graph import Graph

__all__ = ["INLINE_LIMIT_BYTES", "save"]

INLINE_LIMIT_BYTES = 1_900_000_000
"""Models with more weights are written with external data; a message ends at 2 GB."""
_MOVED_BYTES = 1024  # smaller initializers stay in the model file, as the ONNX package has it
_PAGE_BYTES = 4096
_ALIGNED_BYTES = 1 << 20  # from this size on, tensors start on a page so that they can be mapped


def save(graph: Graph, path: Path, keep: Collection[Path] = ()) -> int:
    """Write the model to ``path``, and its external data beside it.

    Weights go to external data where they take more than 1.9 GB, and where those of the model
    that was read did; they are copied one at a time. The data file is called ``path`` + ``.data``
    or, where anything has that name, ``path`` + 8 hexadecimal digits of its content + ``.data``;
    it is complete before the model file is renamed, which is the only switch. The data file that
    the old model at ``path`` had to itself goes afterwards.

    Args:
        graph: The model.
        path: Where to.
        keep: Further files that are read and must stay.

    Returns:
        Bytes of both files together.

    Raises:
        SystemFailure: Disk full, no permission, no such folder; what was there before stays.
        UsageError: ``path`` is a file that holds weights of the model that was read.
        ModelError: External data of the model that was read has changed or gone.
    """
    model, written = graph.references(), 0
    try:
        _check_target(graph, path)
        former = own_data.held(path)
        with Staged(path) as staged:
            if _wants_external(graph):
                with staged.companion() as file:
                    moved, content = _move_out(graph, model, file)
                    written += file.tell()
                location = staged.settle(own_data.names(path, content))
                for tensor in moved:
                    tensors.point(tensor, location)
            else:
                _move_in(graph, model)
            with staged.main() as file:
                written += file.write(model.SerializeToString())
            if staged.commit():
                own_data.remove(former, path, reading=[*graph.data_files, *keep])
    except OSError as err:
        raise SystemFailure(f"{path} cannot be written: {err.strerror or err}") from err
    except (EncodeError, ValueError) as err:
        raise SystemFailure(f"{path} cannot be written as one message: {err}") from err
    return written


def _check_target(graph: Graph, path: Path) -> None:
    if not path.parent.is_dir():
        raise SystemFailure(f"{path} cannot be written: folder {path.parent} does not exist")
    if path.exists() and not path.is_file():
        raise SystemFailure(f"{path} cannot be written: it is there and no regular file")
    if own_data.is_one_of(path, graph.data_files):
        raise UsageError(f"{path} holds weights of the model that was read; choose another name")


def _wants_external(graph: Graph) -> bool:
    return graph.came_external or graph.weight_bytes > INLINE_LIMIT_BYTES


def _move_in(graph: Graph, model: ModelProto) -> None:
    """Put the values of spilled tensors into the message."""
    for tensor in tensors.walk(model):
        if tensors.is_external(tensor):
            tensors.fill(tensor, graph.chunks(tensor))


def _move_out(graph: Graph, model: ModelProto, file: BinaryIO) -> tuple[list[TensorProto], int]:
    """Write large initializers and whatever was external to ``file``.

    Returns:
        The tensors that refer to it from now on, its name yet to be told, and its CRC-32.
    """
    initializers = {name for scope in graph.scopes() for name in scope.initializers}
    moved, content = list[TensorProto](), 0
    for tensor in tensors.walk(model):
        length = tensors.stored_bytes(tensor)
        movable = tensor.name in initializers and tensor.data_type != TensorProto.STRING
        if not tensors.is_external(tensor) and not (movable and length >= _MOVED_BYTES):
            continue
        if length >= _ALIGNED_BYTES:
            file.write(bytes(-file.tell() % _PAGE_BYTES))
        offset = file.tell()
        for chunk in graph.chunks(tensor):
            file.write(chunk)
            content = zlib.crc32(chunk, content)
        tensors.refer(tensor, "", offset, length)
        moved.append(tensor)
    return moved, content
