"""Writing a model file and its external data: whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import EncodeError
from onnx import ModelProto, TensorProto

from graphopt.atomic import Staged
from graphopt.errors import SystemFailure, UsageError
from graphopt.graph import tensors
from graphopt.graph.graph import Graph

__all__ = ["INLINE_LIMIT_BYTES", "save"]

INLINE_LIMIT_BYTES = 1_900_000_000
"""Models with more weights are written with external data; a message ends at 2 GB."""
_MOVED_BYTES = 1024  # smaller initializers stay in the model file, as the ONNX package has it
_PAGE_BYTES = 4096
_ALIGNED_BYTES = 1 << 20  # from this size on, tensors start on a page so that they can be mapped


def save(graph: Graph, path: Path) -> int:
    """Write the model to ``path``, and its external data to ``path`` + ``.data``.

    Weights go to external data where they take more than 1.9 GB, and where those of the model
    that was read did; they are copied one at a time. Both files are written under other names,
    synced, then renamed. Files that ``graph`` still reads from are never overwritten: the data
    file gets another number then.

    Returns:
        Bytes of both files together.

    Raises:
        SystemFailure: Disk full, no permission, no such folder; what was there before stays.
        UsageError: ``path`` is a file that holds weights of ``graph``.
        ModelError: External data of the model that was read has changed or gone.
    """
    _check_target(graph, path)
    model, written = graph.references(), 0
    try:
        with Staged() as staged:
            if _wants_external(graph):
                data = _data_path(graph, path)
                with staged.open(data) as file:
                    _move_out(graph, model, file, data.name)
                    written += file.tell()
            else:
                _move_in(graph, model)
            with staged.open(path) as file:
                written += file.write(model.SerializeToString())
            staged.commit()
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
    if path.resolve() in _files_read(graph):
        raise UsageError(f"{path} holds weights of the model that was read; choose another name")


def _files_read(graph: Graph) -> set[Path]:
    """External files that the graph's weights still lie in."""
    if graph.folder is None:
        return set()
    return {
        (graph.folder / tensors.external_entries(tensor).get("location", "")).resolve()
        for tensor in _external(graph)
    }


def _external(graph: Graph) -> Iterator[TensorProto]:
    """Tensors whose values lie in files of the model that was read."""
    for tensor in graph.tensors():
        if tensors.is_external(tensor) and graph.spill.file(tensor) is None:
            yield tensor


def _wants_external(graph: Graph) -> bool:
    return graph.came_external or graph.weight_bytes > INLINE_LIMIT_BYTES


def _data_path(graph: Graph, path: Path) -> Path:
    taken = _files_read(graph)
    data, count = path.with_name(f"{path.name}.data"), 0
    while data.resolve() in taken:
        count += 1
        data = path.with_name(f"{path.name}.{count}.data")
    return data


def _move_in(graph: Graph, model: ModelProto) -> None:
    """Put the values of spilled tensors into the message."""
    for tensor in tensors.walk(model):
        if tensors.is_external(tensor):
            tensors.fill(tensor, graph.chunks(tensor))


def _move_out(graph: Graph, model: ModelProto, file: BinaryIO, location: str) -> None:
    """Write large initializers and whatever was external to ``file``; the message refers to it."""
    initializers = {name for scope in graph.scopes() for name in scope.initializers}
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
        tensors.refer(tensor, location, offset, length)
