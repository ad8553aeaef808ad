"""Arrays that are read a few rows at a time, wherever they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from graphopt.data.bounds import MOST_TEXT_BYTES
from graphopt.errors import DataError
from graphopt.graph.tensors import Array

__all__ = ["LABELS", "Column", "Part", "array_column", "array_part"]

LABELS = "labels"
"""Name of the array that holds labels, unless the model has an input of that name."""

_OBJECT_BYTES = 64
"""Of a short text."""


@dataclass(frozen=True)
class Column:
    """An array whose leading axis may be read in blocks, from the start, any number of times.

    Attributes:
        shape: Of the whole array.
        dtype: Of its elements; never ``object``.
        blocks: Gives successive blocks of so many rows; an array of rank 0 is one block.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Callable[[int], Iterator[Array]]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return prod(self.shape) * self.dtype.itemsize

    def whole(self) -> Array:
        """All rows in one array."""
        return next(self.blocks(max(1, self.shape[0] if self.shape else 1)))


@dataclass(frozen=True)
class Part:
    """Arrays that belong together: an ``.npz``, one file of a folder, one feed of a function.

    Attributes:
        place: Where they come from, as messages say it.
        columns: By input name.
        stored: Bytes of their file on the disk; None where they come from none, or were computed.
    """

    place: str
    columns: Mapping[str, Column]
    stored: int | None = None


def array_column(values: Any, place: str, name: str, *, copied: bool = False) -> Column:
    """A column over an array, or what numpy makes an array of.

    Args:
        values: The array.
        place: Where it comes from, for messages.
        name: Of the input.
        copied: Copy what is read: whoever gave the array may write on it.

    Raises:
        DataError: It is not made of numbers or strings.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as err:  # RuntimeError: a tensor with a gradient
        raise DataError(f"{place}: {name!r} is no array: {err}") from err
    if array.dtype.hasobject and array.size * _OBJECT_BYTES > MOST_TEXT_BYTES:
        raise DataError(f"{place}: {name!r} holds {array.size} Python objects")
    if array.dtype.hasobject and all(isinstance(text, str) for text in array.flat):
        longest = max((len(text) for text in array.flat), default=0)  # numpy gives all its room
        if array.size * longest * 4 > MOST_TEXT_BYTES:
            raise DataError(
                f"{place}: {name!r} holds {array.size} texts of up to {longest} letters"
            )
        array = array.astype(np.str_)
    if array.dtype.hasobject or array.dtype.names:
        raise DataError(f"{place}: {name!r} holds Python objects where an array of numbers must be")

    def blocks(step: int) -> Iterator[Array]:
        if array.ndim == 0:
            yield array.copy() if copied else array
            return
        for start in range(0, max(1, len(array)), step):
            block = array[start : start + step]
            yield block.copy() if copied else block

    return Column(array.shape, array.dtype, blocks)


def array_part(arrays: Mapping[str, Any], place: str, *, copied: bool = False) -> Part:
    """A part over arrays in memory; of ``copied`` ones as for a column.

    Raises:
        DataError: One of them is no array of numbers or strings.
    """
    columns = {
        name: array_column(each, place, name, copied=copied) for name, each in arrays.items()
    }
    return Part(place, columns)
