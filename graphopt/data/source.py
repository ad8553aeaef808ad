"""Samples from whatever the user names: a file, a folder, a function or arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from graphopt.data import feeds
from graphopt.data.columns import array_part
from graphopt.data.inputs import model_inputs
from graphopt.data.npz import npz_part
from graphopt.data.samples import Samples
from graphopt.errors import DataError, UsageError
from graphopt.graph.graph import Graph

__all__ = ["Source", "open_data"]

Source = str | Path | Mapping[str, Any] | Callable[[], Any]
"""``.npz``, folder, ``file.py:function`` or ``module:function``; arrays by name; a function."""


def open_data(source: Source, graph: Graph, images: Mapping[str, Any] | None = None) -> Samples:
    """Open samples and check them against the model before anything runs.

    Args:
        source: What holds or yields the samples.
        graph: The model that they are for.
        images: Preprocessing of a folder of images.

    Raises:
        DataError: The samples do not fit the model, cannot be read, hold NaN, or are empty.
    """
    inputs = model_inputs(graph)
    if isinstance(source, Mapping):
        held = array_part(source, "the data")
        return feeds.check("the data", lambda: iter([held]), inputs, single=False)
    path = Path(source)
    if path.suffix.lower() == ".npz":
        part = npz_part(path)
        return feeds.check(str(path), lambda: iter([part]), inputs, single=False)
    raise DataError(f"{path}: not an .npz")
