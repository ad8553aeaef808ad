"""Feeds from a Python function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

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
        DataError: When iterated: the function raises, or yields something else.
    """

    def parts() -> Iterator[Part]:
        for number, item in enumerate(_yielded(function, place)):
            yield _part(item, f"{place}, feed {number}", inputs)

    return parts


def _yielded(function: Callable[[], Any], place: str) -> Iterator[Any]:
    try:
        given = function()
        if isinstance(given, Mapping | np.ndarray):
            given = [given]
        if not isinstance(given, Iterable):
            raise DataError(f"{place}: it returned {type(given).__name__} where feeds must be")
        yield from given
    except DataError:
        raise
    except Exception as err:
        raise DataError(f"{place}: it raised {type(err).__name__}: {err}") from err


def _part(item: Any, place: str, inputs: Sequence[Input]) -> Part:
    if isinstance(item, Mapping):
        return array_part(item, place)
    required = [each.name for each in inputs if each.required]
    if len(required) != 1:
        raise DataError(f"{place}: give a dict with arrays for {', '.join(map(repr, required))}")
    return array_part({required[0]: item}, place)
