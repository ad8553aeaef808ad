"""Feeds from a Python function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphopt.callables import FAILURES, failure
from graphopt.data.bounds import MOST_FEEDS
from graphopt.data.columns import Part, array_part
from graphopt.data.inputs import Input
from graphopt.errors import DataError

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
    with _told(place):
        given = function()
        if isinstance(given, Mapping | np.ndarray):
            given = [given]
        if not isinstance(given, Iterable):
            raise DataError(f"{place}: it returned {type(given).__name__} where feeds must be")
        items = iter(given)
    while True:
        with _told(place):  # not around the yield: who stops early closes this generator there
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Turn what code of the user's raises into a ``DataError`` about ``place``."""
    try:
        yield
    except DataError:
        raise
    except FAILURES as err:
        raise DataError(f"{place}: it raised {failure(err)}") from err


def _part(item: Any, place: str, inputs: Sequence[Input]) -> Part:
    required = [each.name for each in inputs if each.required]
    if not isinstance(item, Mapping) and len(required) != 1:
        raise DataError(f"{place}: give a dict with arrays for {', '.join(map(repr, required))}")
    with _told(place):
        arrays = dict(item) if isinstance(item, Mapping) else {required[0]: item}
        for name in arrays:
            if not isinstance(name, str):
                raise DataError(f"{place}: {name!r} is no name of an input")
        return array_part(arrays, place)
