"""What an option is, and classes made of them: types, bounds, defaults, values from text."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, cast

from graphopt.errors import UsageError, quoted

__all__ = [
    "Option",
    "OptionField",
    "Options",
    "build",
    "close_names",
    "near_miss",
    "number_of",
    "option_fields",
]

_LONGEST_NUMBER = 100
"""Characters of a number in text; a float has 17 digits that count."""
_LARGEST = 2**63 - 1
"""What tensors, counts and seeds can hold."""
_LONGEST_TEXT, _MOST_TEXTS = 100_000, 100_000
"""More than any name, and more names than any model has layers."""
_MOST_WILDCARDS, _WILD_TEXT = 1000, 100_000
"""Patterns that are tried against every node, and their characters; exact names are looked up."""
_LONGEST_NAME = 200
"""Characters of what a misspelt name may have been; comparing takes the square of it."""

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
    if len(given) > _LONGEST_NAME:
        return []
    return difflib.get_close_matches(given, known, n=count, cutoff=cutoff)


def number_of(text: str, kind: type[int] | type[float]) -> int | float:
    """A number as text has it: ASCII, and of bounded length.

    >>> number_of("12", int), number_of("1e-3", float)
    (12, 0.001)

    Raises:
        ValueError: The text is no such number, or a longer one than anybody means.
    """
    if len(text) > _LONGEST_NUMBER or not text.isascii():
        raise ValueError(f"no number: {quoted(text)}")
    return kind(text)


def option_fields(cls: type[Options]) -> Mapping[str, OptionField]:
    """The options of a class, in their order.

    Raises:
        TypeError: A field is not declared as ``Annotated[type, Option(...)]`` (a bug).
    """
    return _fields_of(cls)  # type: ignore[arg-type]  # mypy looks at the hash of instances


@cache
def _fields_of(cls: type[Options]) -> Mapping[str, OptionField]:
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for item in dataclasses.fields(cast(Any, cls)):
        hint = hints[item.name]
        if typing.get_origin(hint) is not typing.Annotated:
            raise TypeError(f"{cls.__name__}.{item.name} lacks Annotated[..., Option(...)]")
        inner, option = typing.get_args(hint)[:2]
        kind, choices, optional = _shape_of(inner)
        found[item.name] = OptionField(item.name, kind, choices, optional, item.default, option)
    return types.MappingProxyType(found)


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
            whole = isinstance(value, int) and not isinstance(value, bool)
            if item.kind is float and whole and abs(value) <= _LARGEST:
                value = float(value)
                object.__setattr__(self, item.name, value)
            if item.kind is tuple and isinstance(value, str | list):
                value = (value,) if isinstance(value, str) else tuple(value)
                object.__setattr__(self, item.name, value)
            problem = _problem(item, value)
            if problem:
                raise UsageError(f"{self.name}: option {item.name}={quoted(value)} {problem}")

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
        if isinstance(value, item.kind) and value in item.choices:
            return ""
        known = [str(choice) for choice in item.choices]
        return f"is unknown{near_miss(value if isinstance(value, str) else '', known)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST:
        return "is too large"
    if not isinstance(value, item.kind) or (item.kind is not bool and isinstance(value, bool)):
        return f"must be {_TYPE_NAMES.get(item.kind, item.kind.__name__)}"
    if isinstance(value, str | tuple):
        return _problem_of_texts((value,) if isinstance(value, str) else value)
    number = cast(float, value)
    if not (math.isfinite(number) and item.option.admits(number)):
        bounds = item.option.bounds
        return f"is out of bounds: {bounds}" if bounds else "must be a finite number"
    return ""


def _problem_of_texts(texts: tuple[Any, ...]) -> str:
    """What is wrong with text or patterns: too much for a run, or nothing that a file holds."""
    if not all(isinstance(text, str) for text in texts):
        return "must be text or a list of texts"
    if len(texts) > _MOST_TEXTS or any(len(text) > _LONGEST_TEXT for text in texts):
        return f"must be at most {_MOST_TEXTS} texts of {_LONGEST_TEXT} characters"
    wild = [text for text in texts if any(mark in text for mark in "*?[")]
    if len(wild) > _MOST_WILDCARDS or sum(map(len, wild)) > _WILD_TEXT:
        most = f"at most {_MOST_WILDCARDS} patterns with wildcards"
        return f"must have {most}, of {_WILD_TEXT} characters together"
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return "must be Unicode text, which a lone surrogate is not"
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
            problem = f"has no option {quoted(name)}{near_miss(name, fields)}"
            raise UsageError(f"pass {cls.name!r} {problem}")
    return cls(**dict(values))
