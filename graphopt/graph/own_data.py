"""External data files of our making: their names, whose they are, when they may go."""

from __future__ import annotations

import itertools
import mmap
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import ModelProto

from graphopt import outside
from graphopt.graph import tensors

__all__ = ["held", "is_one_of", "names", "remove"]

_MOST_BYTES = 1 << 30
"""Of other files that are looked through; with more of them, nothing is removed."""
_LONGEST_BYTES = 2**31 - 1
"""Of a message; what is longer is no model."""


def names(path: Path, content: int) -> Iterator[str]:
    """Names that the data of a model at ``path`` may have, best first.

    Args:
        path: Of the model.
        content: CRC-32 of the data, so that old and new data have names of their own.
    """
    yield f"{path.name}.data"
    yield f"{path.name}.{content:08x}.data"
    for count in itertools.count(1):
        yield f"{path.name}.{content:08x}.{count}.data"


def held(path: Path) -> list[Path]:
    """Data files under names of our making that the model at ``path`` refers to.

    A link is not one, nor a file in another folder. There are none where no model is at ``path``.
    """
    ours = re.compile(re.escape(path.name) + r"(\.[0-9a-f]{8})?(\.[0-9]+)?\.data")
    try:
        with os.scandir(path.parent) as items:
            candidates = [item for item in items if ours.fullmatch(item.name)]
        files = {item.name for item in candidates if item.is_file(follow_symlinks=False)}
        if not files or not path.is_file() or path.stat().st_size > _LONGEST_BYTES:
            return []
        with outside.opened(path) as file:
            model = ModelProto.FromString(file.read())
    except (OSError, DecodeError, MemoryError):
        return []
    named = {
        tensors.external_entries(tensor).get("location", "")
        for tensor in tensors.walk(model)
        if tensors.is_external(tensor)
    }
    return [path.with_name(name) for name in sorted(files & named)]


def remove(files: Collection[Path], path: Path, *, reading: Collection[Path]) -> None:
    """Remove data files that the model that was at ``path`` had to itself.

    Kept are those in ``reading``, those whose name occurs in another file of the folder or in a
    model one folder up, and all of them where that is not certain.
    """
    files = [file for file in files if not is_one_of(file, reading)]
    for file in files if files and not _named_by_others(files, path) else ():
        with suppress(OSError):
            file.unlink()


def is_one_of(path: Path, files: Collection[Path]) -> bool:
    """Whether a file is one of ``files``, under whatever name."""
    for file in files:
        with suppress(OSError):
            if path.samefile(file):
                return True
    return False


def _named_by_others(files: Collection[Path], path: Path) -> bool:
    sought, left = [os.fsencode(file.name) for file in files], _MOST_BYTES
    try:
        for other in _others(path):
            if is_one_of(other, files):
                continue
            with outside.opened(other) as file:
                size = os.fstat(file.fileno()).st_size
                left -= size
                if left < 0:
                    return True
                if not size:
                    continue
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                    if any(text.find(name) >= 0 for name in sought):
                        return True
    except (OSError, ValueError):
        return True
    return False


def _others(path: Path) -> Iterator[Path]:
    """Files that may be models which name data beside ``path``: any here, ``.onnx`` one up."""
    folder = path.resolve().parent
    for place, suffix in ((folder, ""), (folder.parent, ".onnx")):
        with os.scandir(place) as items:
            for item in items:
                mine = place == folder and item.name == path.name
                if item.name.endswith(suffix) and not mine and item.is_file():
                    yield Path(item)
