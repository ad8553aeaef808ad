"""The options of a pass, read from its dataclass: types, bounds, values from text."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.pipeline.contract import Option, Pass

__all__ = ["OptionField", "build", "check_values", "near_miss", "option_fields"]


@dataclass(frozen=True)
class OptionField:
    """One option of a pass class.

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
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def option_fields(pass_class: type[Pass]) -> dict[str, OptionField]:
    """The options of a pass class, in their order.

    Raises:
        TypeError: A field is not declared as ``Annotated[type, Option(...)]`` (a bug of the pass).
    """
    hints = typing.get_type_hints(pass_class, include_extras=True)
    found = {}
    for item in dataclasses.fields(typing.cast(Any, pass_class)):
        hint = hints[item.name]
        if typing.get_origin(hint) is not typing.Annotated:
            raise TypeError(f"{pass_class.__name__}.{item.name} lacks Annotated[..., Option(...)]")
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


def check_values(instance: Pass) -> None:
    """Check every option of a new pass against its type and bounds.

    Raises:
        UsageError: A value has the wrong type, is not among the choices or out of bounds.
    """
    for item in option_fields(type(instance)).values():
        value = getattr(instance, item.name)
        if item.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
            object.__setattr__(instance, item.name, value)
        if item.kind is tuple and isinstance(value, str | list):
            value = (value,) if isinstance(value, str) else tuple(value)
            object.__setattr__(instance, item.name, value)
        problem = _problem(item, value)
        if problem:
            raise UsageError(f"{instance.name}: option {item.name}={value!r} {problem}")


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


def build(pass_class: type[Pass], values: Mapping[str, Any]) -> Pass:
    """A pass from option values as recipe, JSON or spec text give them.

    Raises:
        UsageError: An option is unknown (the near miss is named) or its value is not allowed.
    """
    fields = option_fields(pass_class)
    for name in values:
        if name not in fields:
            raise UsageError(
                f"pass {pass_class.name!r} has no option {name!r}{near_miss(name, fields)}"
            )
    return pass_class(**dict(values))
