"""The passes by name: those of this package and those that installed distributions bring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from graphopt.callables import failure, is_stop
from graphopt.contract.passes import Pass
from graphopt.errors import SystemFailure, UsageError, quoted
from graphopt.options import near_miss

__all__ = ["GROUP", "find", "lent", "names", "register"]

GROUP = "graphopt.passes"
"""Group of the entry points whose modules register passes; named like the package of our own."""

_PASSES: dict[str, type[Pass]] = {}
_LOADED: set[EntryPoint] = set()
_PassClass = TypeVar("_PassClass", bound=type[Pass])


def register(name: str) -> Callable[[_PassClass], _PassClass]:
    """Class decorator that makes a pass known under ``name`` (its file's name with dashes).

    Raises:
        ValueError: The name is taken (a bug).
    """

    def enter(pass_class: _PassClass) -> _PassClass:
        if name in _PASSES:
            raise ValueError(f"two passes are called {name!r}")
        pass_class.name = name
        _PASSES[name] = pass_class
        return pass_class

    return enter


@contextmanager
def lent(pass_class: type[Pass]) -> Iterator[None]:
    """Know a pass under its name for a while; nothing is done for one that is registered.

    Raises:
        ValueError: Another pass has its name (a bug).
    """
    if _PASSES.get(pass_class.name) is pass_class:
        yield
        return
    register(pass_class.name)(pass_class)
    try:
        yield
    finally:
        del _PASSES[pass_class.name]


def find(name: str) -> type[Pass]:
    """The pass class of that name; what is installed beside us is looked at for other names only.

    Raises:
        UsageError: No pass has that name; the near miss is in the message.
        SystemFailure: An installed distribution's passes cannot be loaded.
    """
    import_module(GROUP)
    if name not in _PASSES:
        _load_installed()
    if name not in _PASSES:
        raise UsageError(f"unknown pass {quoted(name)}{near_miss(name, _PASSES)}")
    return _PASSES[name]


def names() -> list[str]:
    """The names of all passes, sorted.

    Raises:
        SystemFailure: An installed distribution's passes cannot be loaded.
    """
    import_module(GROUP)
    _load_installed()
    return sorted(_PASSES)


def _load_installed() -> None:
    """Import what the entry points name, once; what fails leaves the registry as it was."""
    for point in entry_points(group=GROUP):
        if point in _LOADED:
            continue
        before = dict(_PASSES)
        try:
            point.load()
        except BaseException as err:
            if is_stop(err):
                raise
            _PASSES.clear()
            _PASSES.update(before)
            source = "unknown" if point.dist is None else point.dist.name
            raise SystemFailure(
                f"the passes of the installed distribution {source!r} cannot be loaded: entry "
                f"point {point.name!r} ({point.value}): {failure(err)}; "
                "repair or uninstall it"
            ) from err
        _LOADED.add(point)
