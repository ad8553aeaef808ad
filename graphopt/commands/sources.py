"""What a caller may hand in as a model or as samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from graphopt import outside
from graphopt.data.source import Source
from graphopt.errors import UsageError
from graphopt.graph import io
from graphopt.graph.forms import FORMS, Form, form_of, to_message
from graphopt.graph.graph import Graph
from graphopt.tasks.words import TasksGiven

__all__ = ["Data", "Model", "load", "path_of"]

Model: TypeAlias = "str | Path | bytes | Form"
"""A file, its bytes, or a model in memory; never modified."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The samples of a run; ``graphopt.data.source`` says in which forms they may come.

    Attributes:
        calibration: Samples without labels, for passes to observe.
        training: Samples to train on, with labels under the key ``labels`` where a pass needs
            them; by default the calibration samples.
        evaluation: Samples that judge the result; labels under the key ``labels``.
        images: Preprocessing of a folder of images: size, crop, mean, std, scale, layout, color.
        tasks: What outputs mean where they should not be read: ``scores=multi-label``.
    """

    calibration: Source | None = None
    training: Source | None = None
    evaluation: Source | None = None
    images: Mapping[str, Any] | None = None
    tasks: TasksGiven | None = None


def load(model: Model, libraries: Sequence[str | Path] = ()) -> Graph:
    """A graph of the model, in whatever form it comes.

    Args:
        model: A model.
        libraries: Shared libraries with the kernels of its own operators.

    Raises:
        UsageError: It is no model, or a library is no file.
        ModelError: It cannot be read.
    """
    graph = _loaded(model)
    for library in libraries:
        try:
            outside.regular(Path(library))
        except OSError as err:
            raise UsageError(f"{library}: no library of operators: {err.strerror}") from err
    graph.libraries = tuple(Path(library).resolve() for library in libraries)
    return graph


def _loaded(model: Model) -> Graph:
    if isinstance(model, str | Path | bytes):
        return io.load(model)
    if form_of(model) is None:
        forms = f"{', '.join(FORMS[:-1])} or {FORMS[-1]}"
        raise UsageError(
            f"a model cannot come from {type(model).__name__}; give a path, bytes, {forms}"
        )
    return io.load(to_message(model))


def path_of(model: Model | None) -> Path | None:
    """The file that the model comes from; None for one in memory."""
    return Path(model) if isinstance(model, str | Path) else None
