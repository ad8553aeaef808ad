"""Feeds from a Python function that the user names; nothing else ever runs foreign code."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from graphopt.data.columns import Part, array_part
from graphopt.data.inputs import Input
from graphopt.errors import DataError, UsageError

__all__ = ["function_parts", "imported", "is_reference"]


def is_reference(text: str) -> bool:
    """Whether the text reads like ``file.py:function`` or ``module:function``."""
    place, _, name = text.rpartition(":")
    if not name.isidentifier():
        return False
    return place.endswith(".py") or all(part.isidentifier() for part in place.split("."))


def imported(reference: str) -> Callable[..., Any]:
    """The function that ``file.py:function`` or ``module:function`` names; runs its module.

    Modules beside the file, or in the current folder, can be imported by it.

    Raises:
        UsageError: There is no such file, module or function, or the module raises on import.
    """
    place, _, name = reference.rpartition(":")
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise UsageError(f"{reference}: there is no file {place}")
    try:
        with _importable(Path(place).resolve().parent if is_file else Path.cwd()):
            module = _run_file(Path(place)) if is_file else importlib.import_module(place)
    except Exception as err:
        kind = type(err).__name__
        raise UsageError(f"{reference}: {place} cannot be imported: {kind}: {err}") from err
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{reference}: {place} has no function {name!r}")
    return function  # type: ignore[no-any-return]  # what a foreign module holds has no type


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"graphopt_file_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses in the file look themselves up there
    spec.loader.exec_module(module)
    return module


def function_parts(
    function: Callable[[], Any], place: str, inputs: Sequence[Input]
) -> Callable[[], Iterator[Part]]:
    """Parts from what a function yields: one feed each, or all samples at once.

    A feed is a mapping from input names to arrays or, for a model of one input, an array.

    Raises:
        DataError: When iterated: the function raises, or yields something else.
    """

    def parts() -> Iterator[Part]:
        for number, item in enumerate(_yielded(function, place)):
            yield _part(item, f"{place}, feed {number}", inputs)

    return parts


def _yielded(function: Callable[[], Any], place: str) -> Iterator[Any]:
    try:
        given = function()
        if isinstance(given, Mapping | np.ndarray):
            given = [given]
        if not isinstance(given, Iterable):
            raise DataError(f"{place}: it returned {type(given).__name__} where feeds must be")
        yield from given
    except DataError:
        raise
    except Exception as err:
        raise DataError(f"{place}: it raised {type(err).__name__}: {err}") from err


def _part(item: Any, place: str, inputs: Sequence[Input]) -> Part:
    if isinstance(item, Mapping):
        return array_part(item, place)
    required = [each.name for each in inputs if each.required]
    if len(required) != 1:
        raise DataError(f"{place}: give a dict with arrays for {', '.join(map(repr, required))}")
    return array_part({required[0]: item}, place)
