"""A result written in onnxruntime's mobile format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from graphopt.atomic import whole
from graphopt.errors import LimitError, SystemFailure
from graphopt.graph.graph import Graph
from graphopt.graph.save import INLINE_LIMIT_BYTES
from graphopt.graph.tensors import Array
from graphopt.runtime.mobile_format import MobileFile, mobile_file

__all__ = ["is_mobile", "save_mobile"]

_SUFFIX = ".ort"


def is_mobile(path: Path) -> bool:
    """Whether a file of that name is to be in the mobile format."""
    return path.suffix.lower() == _SUFFIX


def save_mobile(
    graph: Graph, path: Path, feeds: Mapping[str, Array] | None
) -> tuple[int, list[str]]:
    """Write a model whole or not at all.

    Args:
        graph: The model.
        path: Where to.
        feeds: One feed, on which the file has to answer like the model; None for none.

    Returns:
        Bytes of the file, and what is to be told of it.

    Raises:
        LimitError: Its weights do not fit into one file.
        ModelError: onnxruntime cannot save or load it so.
        SystemFailure: Disk full, no permission, no such folder.
    """
    if graph.weight_bytes > INLINE_LIMIT_BYTES:
        raise LimitError(f"{path}: a file of this format ends at 2 GB; name it .onnx")
    made = mobile_file(graph, feeds)
    try:
        with whole(path) as file:
            file.write(made.data)
    except OSError as err:
        raise SystemFailure(f"{path} cannot be written: {err.strerror or err}") from err
    return len(made.data), _notes(path, made)


def _notes(path: Path, made: MobileFile) -> list[str]:
    notes = [
        f"{path} is in onnxruntime's mobile format, for onnxruntime {made.version} and newer; "
        "bytes are its own, all other figures those of the same model as ONNX"
    ]
    if made.expands:
        notes.append(
            "in this format onnxruntime expands weights that are only stored small at every run, "
            "not once as it loads them: it takes more time than as ONNX"
        )
    return notes
