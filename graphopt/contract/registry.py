"""The passes by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from graphopt.contract.passes import Pass
from graphopt.errors import UsageError
from graphopt.options import near_miss

__all__ = ["find", "names", "register"]

_PASSES: dict[str, type[Pass]] = {}
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


def find(name: str) -> type[Pass]:
    """The pass class of that name; ``import graphopt.passes`` fills the registry.

    Raises:
        UsageError: No pass has that name; the near miss is in the message.
    """
    if name not in _PASSES:
        raise UsageError(f"unknown pass {name!r}{near_miss(name, _PASSES)}")
    return _PASSES[name]


def names() -> list[str]:
    """The names of all passes, sorted."""
    return sorted(_PASSES)
