"""Functions that the user names on the command line or in a recipe; no other foreign code runs.

What it raises, of whatever kind, becomes a line; what it prints goes to stderr, since stdout is for
results.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from graphopt import outside
from graphopt.errors import DataError, GraphoptError, Stopped, UsageError

__all__ = ["failure", "foreign", "imported", "is_reference", "is_stop"]

_MOST_LETTERS = 1000
"""Of the text of an exception, which may be as long as what it complains of."""


def failure(err: BaseException) -> str:
    """What foreign code raised, in one line: ``ValueError: no such layer``."""
    try:
        text = str(err)
    except BaseException as raised:
        if is_stop(raised):
            raise
        text = ""
    if len(text) > _MOST_LETTERS:
        text = f"{text[:_MOST_LETTERS]} ..."
    return " ".join(f"{type(err).__name__}: {text}".split()).removesuffix(":")


def is_stop(err: BaseException) -> bool:
    """Whether the user stops the run; whatever else foreign code raises is its own failure.

    A ``KeyboardInterrupt`` is a stop where Ctrl-C raises one. The command line has a ``Stopped``
    raised instead, so that there only a function can have raised the other.
    """
    if isinstance(err, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(err, Stopped)


@contextmanager
def foreign(refusal: Callable[[str], GraphoptError]) -> Iterator[None]:
    """Run foreign code: what it raises becomes ``refusal`` of that in words.

    The current folder is what it was afterwards: relative places were checked against that.

    Raises:
        GraphoptError: The refusal, or what was raised of this kind.
    """
    try:
        with redirect_stdout(sys.stderr), _same_folder():
            yield
    except GraphoptError:
        raise
    except BaseException as err:
        if is_stop(err):
            raise
        raise refusal(failure(err)) from err


@contextmanager
def _same_folder() -> Iterator[None]:
    before = _folder()
    try:
        yield
    finally:
        if before is not None and _folder() != before:
            os.chdir(before)


def _folder() -> Path | None:
    """The current folder; None where it was removed."""
    try:
        return Path.cwd()
    except OSError:
        return None


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
        UsageError: There is no such file, module or function.
        DataError: The module raises on import.
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

    def refusal(what: str) -> GraphoptError:
        return DataError(f"{reference}: {place} cannot be imported: {what}")

    with foreign(refusal), _importable(Path(place).resolve().parent if is_file else Path.cwd()):
        try:
            module = _run_file(Path(place)) if is_file else importlib.import_module(place)
        except ModuleNotFoundError as err:
            if is_file or err.name is None or not f"{place}.".startswith(f"{err.name}."):
                raise
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
        if str(folder) in sys.path:  # the module may have changed that as well
            sys.path.remove(str(folder))


def _run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"graphopt_file_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses in the file look themselves up there
    spec.loader.exec_module(module)
    return module
