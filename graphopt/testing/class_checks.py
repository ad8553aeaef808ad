"""What must hold for the class of a pass, without a model."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from graphopt.contract.examples import Example
from graphopt.contract.passes import Pass
from graphopt.contract.recipe import Recipe, format_recipe, parse_recipe
from graphopt.contract.spec import format_passes, parse_passes
from graphopt.errors import UsageError
from graphopt.options import OptionField, build, option_fields

__all__ = ["CLASS_CHECKS", "unreached"]


def _values(item: OptionField) -> Iterator[Any]:
    """Values that an option must accept."""
    if item.choices:
        yield from item.choices
    elif item.kind is bool:
        yield from (False, True)
    elif item.kind in (int, float):
        yield from _inside(item)
    elif item.kind is tuple:
        yield from ((), ("Conv",), ("*a", 'with "quotes", and [brackets]'))
    else:
        yield from ("text", 'with "quotes", {braces} and \\')
    if item.optional:
        yield None


def _inside(item: OptionField) -> Iterator[Any]:
    """Numbers within the bounds, the bounds themselves where they are allowed."""
    option = item.option
    low = 0.0 if option.low is None else option.low
    high = low + 3.0 if option.high is None else option.high
    for value in (low, high, (low + high) / 2):
        number = item.kind(value)
        if option.admits(number):
            yield number


def _built(pass_class: type[Pass], name: str, value: Any) -> Pass | None:
    """A pass with one option set; None where that alone is a contradiction that it refuses."""
    try:
        return build(pass_class, {name: value})
    except UsageError as err:
        assert "out of bounds" not in str(err), err
        return None


def _variants(pass_class: type[Pass]) -> Iterator[Pass]:
    yield pass_class()
    for item in option_fields(pass_class).values():
        for value in _values(item):
            made = _built(pass_class, item.name, value)
            if made is not None:
                yield made


def options_round_trip(pass_class: type[Pass]) -> None:
    """Spec text, recipe and JSON give back an equal pass."""
    for item in _variants(pass_class):
        assert parse_passes(format_passes([item])) == [item]
        recipe = Recipe(passes=(item,))
        assert parse_recipe(format_recipe(recipe)) == recipe
        assert build(pass_class, json.loads(json.dumps(item.options()))) == item


def bounds_are_kept(pass_class: type[Pass]) -> None:
    """One step outside each bound is refused, with the bounds in the message."""
    for item in option_fields(pass_class).values():
        for bound, outward, is_open in (
            (item.option.low, -math.inf, item.option.low_open),
            (item.option.high, math.inf, item.option.high_open),
        ):
            if bound is None:
                continue
            if is_open:
                value: Any = item.kind(bound)
            elif item.kind is int:
                value = int(bound) + (1 if outward > 0 else -1)
            else:
                value = math.nextafter(bound, outward)
            _assert_refused(pass_class, item.name, value, "out of bounds")


def wrong_values_are_refused(pass_class: type[Pass]) -> None:
    """A value of another type, and an unknown choice, are refused."""
    for item in option_fields(pass_class).values():
        _assert_refused(pass_class, item.name, {"a": 1}, item.name)
        if item.choices and item.kind is str:
            _assert_refused(pass_class, item.name, f"{item.choices[0]}x", str(item.choices[0]))


def near_misses_are_named(pass_class: type[Pass]) -> None:
    """An unknown option is refused; the message names the one that was meant."""
    for name in option_fields(pass_class):
        _assert_refused(pass_class, f"{name}x", 1, name)
    _assert_refused(pass_class, "no_such_option", 1, "no_such_option")


def _assert_refused(pass_class: type[Pass], name: str, value: Any, words: str) -> None:
    try:
        build(pass_class, {name: value})
    except UsageError as err:
        assert words in str(err), f"{err} lacks {words!r}"
    else:
        raise AssertionError(f"{pass_class.name}: {name}={value!r} was accepted")


def is_documented(pass_class: type[Pass]) -> None:
    """A page that begins with a sentence; a phrase for each option; a frozen dataclass."""
    page = (inspect.getdoc(pass_class) or "nothing").splitlines()[0]
    assert page.endswith("."), f"the first line of its docstring is no sentence: {page}"
    for item in option_fields(pass_class).values():
        assert len(item.option.help) > 5, f"option {item.name} lacks its phrase"
    assert pass_class() == pass_class(), "a pass is a value, a frozen dataclass"
    assert hash(pass_class()) == hash(pass_class())


def unreached(pass_class: type[Pass], examples: Sequence[Example]) -> list[str]:
    """What of the options no example reaches: choices, both values of a bool, any other value."""
    items = [build(pass_class, example.options) for example in examples]
    missing = []
    for item in option_fields(pass_class).values():
        reached = {getattr(made, item.name) for made in items}
        asked = item.choices or ((False, True) if item.kind is bool else ())
        missing += [f"{item.name}={value}" for value in asked if value not in reached]
        if not asked and not reached - {item.default}:
            missing.append(f"{item.name} other than {item.default!r}")
    return missing


CLASS_CHECKS: dict[str, Callable[[type[Pass]], None]] = {
    check_function.__name__: check_function
    for check_function in (
        options_round_trip,
        bounds_are_kept,
        wrong_values_are_refused,
        near_misses_are_named,
        is_documented,
    )
}
"""Checks that need no model, by name."""
