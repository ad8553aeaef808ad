"""Folders of ``.npy`` and ``.npz`` files, one sample or a batch in each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from graphopt.data.bounds import MOST_FILES, MOST_LABEL_BYTES
from graphopt.data.columns import LABELS, Column, Part
from graphopt.data.inputs import Input
from graphopt.data.npy import bytes_on_disk, npy_column
from graphopt.data.npz import npz_part
from graphopt.errors import DataError

__all__ = [
    "LABELS_FILE",
    "array_files",
    "class_folders",
    "file_part",
    "files_below",
    "folder_parts",
    "labels_of",
]

LABELS_FILE = f"{LABELS}.npy"
"""Labels of a folder, one a sample in the order of the file names."""

_ARRAYS = (".npy", ".npz")
_NO_CLASSES = frozenset(
    (
        *("train", "training", "val", "valid", "validation", "test", "testing", "eval", "calib"),
        *("images", "image", "img", "labels", "masks", "annotations", "data"),
    )
)
"""Names of subfolders that are parts of a data set, not classes."""


def files_below(folder: Path) -> list[str]:
    """All files in a folder and its subfolders by name; hidden ones and linked folders left out.

    Texts, since a folder may hold millions.

    Raises:
        DataError: A folder cannot be read, or there are more files than anybody needs.
    """
    found: list[str] = []
    count = 0
    waiting = [(str(folder), True)]
    try:
        while waiting:
            path, is_folder = waiting.pop()
            if not is_folder:
                found.append(path)
                continue
            inside = []
            with os.scandir(path) as entries:
                for entry in entries:
                    count += 1
                    if count > MOST_FILES:
                        raise DataError(f"{folder}: more than {MOST_FILES:,} files; give fewer")
                    linked = entry.is_symlink() and Path(entry.path).is_dir()
                    if not linked and not entry.name.startswith("."):
                        inside.append((entry.path, entry.is_dir(follow_symlinks=False)))
            waiting += sorted(inside, reverse=True)  # the first is taken next
    except OSError as err:
        raise DataError(f"{folder}: cannot be read: {err.strerror}") from err
    return found


def array_files(files: Sequence[str]) -> list[str]:
    """Those that hold arrays of samples."""
    return [
        path for path in files if path.lower().endswith(_ARRAYS) and Path(path).name != LABELS_FILE
    ]


def labels_of(folder: Path) -> Callable[[], Column] | None:
    """A way to read the labels that lie in a folder; None without."""
    path = folder / LABELS_FILE
    return (lambda: npy_column(path, MOST_LABEL_BYTES)) if os.path.lexists(path) else None


def class_folders(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """The class of each file where files lie in subfolders by class; empty where they do not.

    The first level with several subfolders is that of the classes. Files beside them,
    ``labels.npy``, or nothing but names of parts of a data set (``train``, ``val``) say that there
    are none.

    Args:
        folder: The folder.
        files: Those in it that are samples.
    """
    if labels_of(folder) is not None:
        return {}
    start = len(str(folder))
    inside = [
        path[start:].strip(os.sep).split(os.sep)[:-1]  # noqa: PTH206 - there may be millions
        for path in files
    ]
    depth = 0
    while inside and all(len(parts) > depth for parts in inside):
        names = {parts[depth] for parts in inside}
        if len(names) > 1:
            if {name.lower() for name in names} <= _NO_CLASSES:
                return {}
            return {path: parts[depth] for path, parts in zip(files, inside, strict=True)}
        depth += 1
    return {}


def folder_parts(
    files: Sequence[str], inputs: Sequence[Input], most: int
) -> Callable[[], Iterator[Part]]:
    """One part a file; ``most`` bytes may be read at once.

    Raises:
        DataError: When iterated: a file cannot be read, or is an ``.npy`` where the model has
            several inputs.
    """
    return lambda: (file_part(Path(path), inputs, most) for path in files)


def file_part(path: Path, inputs: Sequence[Input], most: int) -> Part:
    """The arrays of an ``.npz``, or of an ``.npy`` for a model of one input.

    Args:
        path: The file.
        inputs: What the model takes.
        most: Bytes that may be read at once.

    Raises:
        DataError: See ``folder_parts``.
    """
    if path.suffix.lower() == ".npz":
        return npz_part(path, most)
    required = [each.name for each in inputs if each.required]
    if len(required) != 1:
        names = ", ".join(map(repr, required))
        raise DataError(f"{path}: the model has several inputs; give .npz files with {names}")
    return Part(str(path), {required[0]: npy_column(path, most)}, bytes_on_disk(path))
