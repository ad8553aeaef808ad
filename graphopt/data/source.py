"""Samples from whatever the user names: a file, a folder, a function or arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graphopt.callables import imported, is_reference
from graphopt.data import folder
from graphopt.data.bounds import feed_bound
from graphopt.data.columns import array_part
from graphopt.data.feeds import check
from graphopt.data.function import function_parts
from graphopt.data.images import image_files, image_parts, parse_preprocessing
from graphopt.data.inputs import Input, model_inputs
from graphopt.data.masks import Masks, mask_pairs
from graphopt.data.samples import Samples
from graphopt.errors import DataError, UsageError
from graphopt.graph.graph import Graph

__all__ = ["Source", "open_data"]

Source = str | Path | Mapping[str, Any] | Callable[[], Any]
"""``.npz``, folder, ``file.py:function`` or ``module:function``; arrays by name; a function."""

_FORMS = "an .npz, a folder of .npy, .npz or image files, or file.py:function"


def open_data(
    source: Source,
    graph: Graph,
    images: Mapping[str, Any] | None = None,
    memory_limit: int | None = None,
) -> Samples:
    """Open samples and check them against the model before anything runs.

    The leading axis of each array counts samples; ``graphopt.data.layout`` has the whole rule.

    Args:
        source: What holds or yields the samples.
        graph: The model that they are for.
        images: Preprocessing of a folder of images: size, crop, scale, mean, std, layout, color.
        memory_limit: Bytes of which a feed may take a part (``graphopt.data.bounds.feed_bound``).

    Raises:
        DataError: The samples do not fit the model, cannot be read, hold NaN, are empty, or claim
            more than the bounds allow.
        UsageError: The function or the preprocessing cannot be used.
        SystemFailure: Pillow is needed and not installed.
    """
    inputs, most = model_inputs(graph), feed_bound(memory_limit)
    if isinstance(source, Mapping):
        part = array_part(source, "the data")
        return check("the data", lambda: iter([part]), inputs, single=False, most=most)
    if isinstance(source, str | Path):
        return _named(str(source), inputs, images or {}, most)
    if callable(source):
        return _function(source, getattr(source, "__name__", "the function"), inputs, most)
    raise UsageError(f"samples cannot come from {type(source).__name__}; give {_FORMS}, or arrays")


def _named(
    name: str, inputs: Sequence[Input], preprocessing: Mapping[str, Any], most: int
) -> Samples:
    path = Path(name)
    try:
        is_folder, there = path.is_dir(), path.exists()
    except OSError as err:  # a name that is too long, a folder that may not be looked into
        raise DataError(f"{name}: cannot be read: {err.strerror}") from err
    if is_folder:
        return _folder(path, inputs, preprocessing, most)
    if path.suffix.lower() in (".npz", ".npy"):
        part = folder.file_part(path, inputs, most)
        return check(name, lambda: iter([part]), inputs, single=False, most=most)
    if there:
        raise DataError(f"{name}: no kind of DATA; give {_FORMS}")
    if is_reference(name):
        return _function(imported(name), name, inputs, most)
    raise DataError(f"{name}: no such file or folder; DATA is {_FORMS}")


def _function(called: Callable[[], Any], name: str, inputs: Sequence[Input], most: int) -> Samples:
    return check(name, function_parts(called, name, inputs), inputs, single=True, most=most)


def _folder(
    path: Path, inputs: Sequence[Input], preprocessing: Mapping[str, Any], most: int
) -> Samples:
    files = folder.files_below(path)
    arrays, pictures = folder.array_files(files), image_files(files)
    labels = folder.labels_of(path)
    pairs = {} if labels or arrays else mask_pairs(path, pictures)
    classes = {} if pairs else folder.class_folders(path, pictures or arrays)
    if arrays and pictures:
        names = Path(arrays[0]).name, Path(pictures[0]).name
        raise DataError(f"{path}: holds arrays ({names[0]}) and images ({names[1]})")
    if pictures:
        how = parse_preprocessing(preprocessing)
        masks = Masks(pairs, how)
        parts = image_parts(list(pairs) or pictures, inputs, how, masks.column if pairs else None)
        return check(
            str(path),
            parts,
            inputs,
            single=False,
            most=most,
            labels=labels,
            values=False,
            notes=lambda: [*parts.notes(), *masks.notes()],
            classes=classes,
        )
    if arrays:
        read = folder.folder_parts(arrays, inputs, most)
        return check(
            str(path), read, inputs, single=True, most=most, labels=labels, classes=classes
        )
    raise DataError(f"{path}: no .npy, .npz or image file in it")
