"""Feeds from a Python function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from graphopt.callables import foreign
from graphopt.data.bounds import MOST_ARRAYS, MOST_FEEDS
from graphopt.data.columns import Part, array_part
from graphopt.data.inputs import Input
from graphopt.errors import DataError, GraphoptError

__all__ = ["function_parts"]


def function_parts(
    function: Callable[[], Any], place: str, inputs: Sequence[Input]
) -> Callable[[], Iterator[Part]]:
    """Parts from what a function yields: one feed each, or all samples at once.

    A feed is a mapping from input names to arrays or, for a model of one input, an array.

    Raises:
        DataError: When iterated: the function raises, yields something else, or does not end.
    """

    def parts() -> Iterator[Part]:
        for number, item in enumerate(_yielded(function, place)):
            if number == MOST_FEEDS:
                raise DataError(
                    f"{place}: more than {MOST_FEEDS:,} feeds; does it ever end? Join samples to "
                    "larger feeds, or give fewer"
                )
            yield _part(item, f"{place}, feed {number}", inputs)

    return parts


def _yielded(function: Callable[[], Any], place: str) -> Iterator[Any]:
    """What the function hands out, its own errors in one line."""

    def refusal(what: str) -> GraphoptError:
        return DataError(f"{place}: it raised {what}")

    with foreign(refusal):
        given = function()
        if isinstance(given, Mapping | np.ndarray):
            given = [given]
        if not isinstance(given, Iterable):
            raise DataError(f"{place}: it returned {type(given).__name__} where feeds must be")
        items = iter(given)
    while True:
        with foreign(refusal):  # not around the yield: who stops early closes this generator there
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _part(item: Any, place: str, inputs: Sequence[Input]) -> Part:
    required = [each.name for each in inputs if each.required]
    with foreign(lambda what: DataError(f"{place}: it raised {what}")):
        if not isinstance(item, Mapping):
            if len(required) != 1:
                names = ", ".join(map(repr, required))
                raise DataError(f"{place}: give a dict with arrays for {names}")
            return array_part({required[0]: item}, place, copied=True)
        arrays: dict[str, Any] = {}
        for name in islice(item, MOST_ARRAYS + 1):
            if not isinstance(name, str):
                raise DataError(f"{place}: {_shown(name)} is no name of an input")
            arrays[str.__str__(name)] = item[name]  # a class of their own may compare as it likes
        if len(arrays) > MOST_ARRAYS:
            raise DataError(f"{place}: more than {MOST_ARRAYS:,} arrays")
        return array_part(arrays, place, copied=True)


def _shown(name: object) -> str:
    return f"{name!r}" if isinstance(name, int | float | bytes) else f"a {type(name).__name__}"
