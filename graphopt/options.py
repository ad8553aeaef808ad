"""What an option is, and classes made of them: types, bounds, defaults, values from text."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, cast

from graphopt.errors import UsageError

__all__ = [
    "Option",
    "OptionField",
    "Options",
    "build",
    "close_names",
    "near_miss",
    "option_fields",
]

Made = TypeVar("Made", bound="Options")


@dataclass(frozen=True)
class Option:
    """The one place that describes an option, besides its type and default.

    Attributes:
        help: A phrase, as it stands in the help text.
        low: Smallest value allowed.
        high: Largest value allowed.
        unit: Unit of the value, for the help text.
        low_open: The smallest value itself is refused.
        high_open: The largest value itself is refused.
        patterns: The option holds patterns that choose nodes; one that matches none is an error.
    """

    help: str
    low: float | None = None
    high: float | None = None
    unit: str = ""
    low_open: bool = False
    high_open: bool = False
    patterns: bool = False

    @property
    def bounds(self) -> str:
        """The interval in words, such as ``0 <= x < 1``; empty without bounds."""
        left = "" if self.low is None else f"{self.low:g} {'<' if self.low_open else '<='} "
        right = "" if self.high is None else f" {'<' if self.high_open else '<='} {self.high:g}"
        return f"{left}x{right}" if left or right else ""

    def admits(self, value: float) -> bool:
        """Whether a number lies within the bounds."""
        if self.low is not None and (value <= self.low if self.low_open else value < self.low):
            return False
        return self.high is None or not (
            value >= self.high if self.high_open else value > self.high
        )


@dataclass(frozen=True)
class OptionField:
    """One option of a class.

    ``kind`` is the plain type (bool, int, float, str, or tuple for a list of strings);
    ``choices`` are the values of a Literal; ``optional`` says that None is allowed.
    """

    name: str
    kind: type
    choices: tuple[Any, ...]
    optional: bool
    default: Any
    option: Option


def near_miss(given: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for a misspelt name, else the list of what is known."""
    names = sorted(known)
    for close in close_names(given, names):
        return f"; did you mean {close!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def close_names(given: str, known: Sequence[str], count: int = 1, cutoff: float = 0.5) -> list[str]:
    """Up to ``count`` names that look most like the one given, the nearest first."""
    return difflib.get_close_matches(given, known, n=count, cutoff=cutoff)


def option_fields(cls: type[Options]) -> dict[str, OptionField]:
    """The options of a class, in their order.

    Raises:
        TypeError: A field is not declared as ``Annotated[type, Option(...)]`` (a bug).
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for item in dataclasses.fields(cast(Any, cls)):
        hint = hints[item.name]
        if typing.get_origin(hint) is not typing.Annotated:
            raise TypeError(f"{cls.__name__}.{item.name} lacks Annotated[..., Option(...)]")
        inner, option = typing.get_args(hint)[:2]
        kind, choices, optional = _shape_of(inner)
        found[item.name] = OptionField(item.name, kind, choices, optional, item.default, option)
    return found


def _shape_of(hint: Any) -> tuple[type, tuple[Any, ...], bool]:
    """Plain type, choices and whether None is allowed, of a type hint."""
    optional = False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        optional = len(parts) < len(typing.get_args(hint))
        hint = parts[0]
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        return type(choices[0]), choices, optional
    origin = typing.get_origin(hint) or hint
    return origin, (), optional


class Options:
    """A frozen dataclass whose fields are options; values are checked as it is made.

    Raises:
        UsageError: A value has the wrong type, is not among the choices or out of bounds.
    """

    name: ClassVar[str]
    """What the options belong to, for messages."""

    def __post_init__(self) -> None:
        for item in option_fields(type(self)).values():
            value = getattr(self, item.name)
            if item.kind is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
                object.__setattr__(self, item.name, value)
            if item.kind is tuple and isinstance(value, str | list):
                value = (value,) if isinstance(value, str) else tuple(value)
                object.__setattr__(self, item.name, value)
            problem = _problem(item, value)
            if problem:
                raise UsageError(f"{self.name}: option {item.name}={value!r} {problem}")

    def options(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name."""
        return {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(cast(Any, self))
            if getattr(self, item.name) != item.default
        }


def _problem(item: OptionField, value: Any) -> str:
    """What is wrong with a value; empty where it is fine."""
    if value is None:
        return "" if item.optional else "must have a value"
    if item.choices:
        if value in item.choices and isinstance(value, item.kind):
            return ""
        return f"is unknown{near_miss(str(value), [str(choice) for choice in item.choices])}"
    if not isinstance(value, item.kind) or (item.kind is not bool and isinstance(value, bool)):
        return f"must be {_TYPE_NAMES.get(item.kind, item.kind.__name__)}"
    if isinstance(value, tuple) and not all(isinstance(part, str) for part in value):
        return "must be text or a list of texts"
    if isinstance(value, int | float) and (math.isnan(value) or not item.option.admits(value)):
        return f"is out of bounds: {item.option.bounds}"
    return ""


_TYPE_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "text or a list of texts",
}


def build(cls: type[Made], values: Mapping[str, Any]) -> Made:
    """A pass from option values as recipe, JSON or spec text give them.

    Raises:
        UsageError: An option is unknown (the near miss is named) or its value is not allowed.
    """
    fields = option_fields(cls)
    for name in values:
        if name not in fields:
            raise UsageError(f"pass {cls.name!r} has no option {name!r}{near_miss(name, fields)}")
    return cls(**dict(values))
