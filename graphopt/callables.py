"""Functions that the user names on the command line or in a recipe; no other foreign code runs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from graphopt import outside
from graphopt.errors import UsageError

__all__ = ["FAILURES", "failure", "imported", "is_reference"]

FAILURES = (Exception, SystemExit, GeneratorExit)
"""What foreign code may raise and is told of in a line; a stop by the user is none of it."""


def failure(err: BaseException) -> str:
    """What foreign code raised, in one line: ``ValueError: no such layer``."""
    return " ".join(f"{type(err).__name__}: {err}".split()).removesuffix(":")


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
    if is_file:
        try:
            outside.regular(Path(place))
        except FileNotFoundError as err:
            raise UsageError(f"{reference}: there is no file {place}") from err
        except OSError as err:
            raise UsageError(f"{reference}: {place} cannot be read: {err.strerror}") from err
    try:
        with _importable(Path(place).resolve().parent if is_file else Path.cwd()):
            module = _run_file(Path(place)) if is_file else importlib.import_module(place)
    except FAILURES as err:
        raise UsageError(f"{reference}: {place} cannot be imported: {failure(err)}") from err
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
