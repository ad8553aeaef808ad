"""Labels as they come: numbers of any type or texts, looked at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.numerics.resized import resized

__all__ = ["IGNORED", "LEFT_OUT", "LabelValues", "Marked", "read_values"]

IGNORED = -100
"""What stands in labels where nothing is to be judged or learned, as PyTorch has it."""
LEFT_OUT = (IGNORED, 255)
"""Labels that mean that, where they are no class: of padding tokens, of borders in label maps."""
_SAY_NOTHING = ("", "ignore", "ignored", "unlabeled", "unlabelled", "void")
"""Texts that mean that, where the others are as many as there are classes."""
_SEPARATORS = (",", ";", "|")
"""Between the labels that a text lists; the first one that occurs."""

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_FULL_BYTE = 255
_SHOWN = 3
_FAR = 1 << 53
"""Whole numbers beyond are not told apart as floats."""

Marked = tuple[NDArray[np.signedinteger[Any]], NDArray[np.bool_] | None]
"""Labels with ``IGNORED`` where they do not count, and where that is; None for nowhere."""


@dataclass(frozen=True)
class LabelValues:
    """Labels and what their values are.

    Attributes:
        texts: As they were given, of texts; None of numbers.
        numbers: Signed integers where all are whole, else float64; of texts the place in
            ``classes``, and ``IGNORED`` of those that write out what is left out.
        classes: The different texts in sorted order; empty where they are numbers written out.
        left_out: What is to be ignored where it is no class.
    """

    texts: Array | None
    numbers: Array
    classes: tuple[str, ...]
    left_out: tuple[int, ...]
    given: str = ""

    @property
    def whole(self) -> bool:
        """Whether all of them are whole numbers."""
        return self.numbers.dtype.kind == "i"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the label of one sample."""
        return self.numbers.shape[1:]

    def below(self, width: int) -> Marked | None:
        """The labels as numbers of so many classes; None where one of them is none."""
        if not self.whole or (self.classes and len(self.classes) != width):
            return None
        values = self.numbers
        if width == 2:
            values = _pair(values)
        return self._marked(values, (values >= 0) & (values < width))

    def named(self, width: int) -> LabelValues:
        """The same for so many classes: texts that say that they are none are left out."""
        kept = [n for n, name in enumerate(self.classes) if name.lower() not in _SAY_NOTHING]
        if len(self.classes) == width or len(kept) != width:
            return self
        places = np.full(len(self.classes) + 1, IGNORED, np.int64)  # the last of what is left out
        places[kept] = np.arange(width)
        numbers = places[np.where(self.numbers < 0, len(self.classes), self.numbers)]
        return replace(self, numbers=numbers, classes=tuple(self.classes[n] for n in kept))

    def listed(self, width: int, *, words: bool) -> tuple[Array, tuple[str, ...]] | None:
        """Rows of 0 and 1 of texts such as ``cat,dog`` that list so many labels, and their names.

        None where they do not, or list others than so many. An empty text lists none.

        Args:
            width: How many labels there are.
            words: Whether what a space parts are labels too; else it is within their names.
        """
        if self.texts is None or self.numbers.ndim != 1:
            return None
        found, places = np.unique(self.texts, return_inverse=True)
        known = (*_SEPARATORS, " ") if words else _SEPARATORS
        used = (each for each in known if any(each in text for text in found))
        separator = next(used, None)
        if separator is None:
            return None
        lists = [{part.strip() for part in text.split(separator)} - {""} for text in found]
        names = sorted(set().union(*lists))
        if len(names) != width:
            return None
        rows = np.array([[name in parts for name in names] for parts in lists], np.int16)
        return rows[places.reshape(-1)], tuple(map(str, names))

    def from_one(self, width: int) -> Marked | None:
        """Numbers of so many classes that count from 1, made to count from 0; None of others.

        It is certain only where every class is among them and nothing else is.
        """
        if not self.whole or self.classes:
            return None
        outside = [n for n in self.left_out if not 1 <= n <= width]
        ignored = np.isin(self.numbers, outside)
        counted = np.unique(self.numbers[~ignored])
        if not np.array_equal(counted, np.arange(1, width + 1)):
            return None
        shifted = np.where(ignored, IGNORED, self.numbers - 1)
        return shifted, ignored if ignored.any() else None

    def at(self, size: tuple[int, int]) -> LabelValues | None:
        """Maps of whole numbers at other places, nearest neighbour; None where they are none.

        They are none either where their sides are in another ratio, or where they seem to be
        filled up, as maps of samples of different sizes are.
        """
        if self.texts is not None or not self.whole or self.numbers.ndim != len(size) + 1:
            return None
        height, width = self.shape
        filled = [(edge == IGNORED).all(-1).any() for edge in self._ends]
        if min(*self.shape, *size) < 2 or any(filled):
            return None
        if abs(size[0] - height * size[1] / width) > 1:
            return None
        return replace(self, numbers=resized(self.numbers, size))

    @property
    def _ends(self) -> tuple[Array, Array]:
        """The last row and the last column of maps."""
        return self.numbers[:, -1, :], self.numbers[:, :, -1]

    @property
    def second_of_two(self) -> Array | None:
        """Of one-hot rows of two, whether it is the second; None where they are none."""
        if not self.whole or self.texts is not None or (self.numbers.sum(axis=-1) != 1).any():
            return None
        return self.numbers[..., 1] if ((self.numbers == 0) | (self.numbers == 1)).all() else None

    def known(self) -> Marked | None:
        """The labels as numbers of whatever there is; None where they are none.

        One that may be left out is taken for a class where the number before it is there.
        """
        if not self.whole or self.classes:
            return None
        outside = [n for n in self.left_out if n < 0 or not (self.numbers == n - 1).any()]
        return self._marked(self.numbers, ~np.isin(self.numbers, outside))

    def _marked(self, values: Array, inside: NDArray[np.bool_]) -> Marked | None:
        if inside.all():
            return values, None
        ignored = np.isin(values, self.left_out) & ~inside
        if not (inside | ignored).all() or ignored.all():
            return None
        return np.where(ignored, IGNORED, values), ignored

    def __str__(self) -> str:
        """Shape, type and range in words."""
        shape = f"shape {list(self.numbers.shape)}"
        if self.classes:
            listed = ", ".join(map(repr, self.classes[:_SHOWN]))
            more = ", ..." if len(self.classes) > _SHOWN else ""
            return f"{shape}, {len(self.classes)} texts: {listed}{more}"
        return f"{shape}, {self.given} from {self.numbers.min():g} to {self.numbers.max():g}"


def read_values(labels: Array, left_out: Sequence[int] = LEFT_OUT) -> LabelValues:
    """Look at labels; texts are numbered in sorted order, or as the numbers that they spell.

    Args:
        labels: Numbers, booleans or texts, at least one.
        left_out: What is to be ignored where it is no class.

    Raises:
        DataError: They are neither numbers nor texts, or there is none.
    """
    given = labels.dtype.name
    if labels.dtype.kind not in "biufSUO" or not labels.size:
        raise DataError(
            f"labels of shape {list(labels.shape)} and type {given} are neither numbers nor texts"
        )
    if labels.dtype.kind in "SUO":
        texts = labels.astype(np.str_)
        names, places = np.unique(texts, return_inverse=True)
        if all(_WHOLE.fullmatch(name) for name in names):
            numbers = names.astype(np.int64)[places].reshape(texts.shape)
            return LabelValues(texts, numbers, (), tuple(left_out), "numbers as texts")
        counted = ~np.isin(names, [str(number) for number in left_out])
        numbered = np.where(counted, np.cumsum(counted) - 1, IGNORED)
        numbers = numbered[places].reshape(texts.shape).astype(np.int64)
        classes = tuple(map(str, names[counted]))
        return LabelValues(texts, numbers, classes, tuple(left_out), "texts")
    numbers = labels
    if labels.dtype.kind == "f" or (given == "uint64" and labels.max() >= _FAR):
        numbers = labels.astype(np.float64)
        low, high = numbers.min(), numbers.max()
        if (numbers != np.floor(numbers)).any() or max(-low, high) > _FAR:
            return LabelValues(None, numbers, (), tuple(left_out), given)
    return LabelValues(None, _small(numbers), (), tuple(left_out), given)


def _small(numbers: Array) -> Array:
    """Whole numbers in the least type that holds them: maps of many pixels take room."""
    low, high = int(numbers.min()), int(numbers.max())
    kinds = (np.int16, np.int32, np.int64)
    fits = (kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return numbers.astype(next(fits, np.int64))


def _pair(values: Array) -> Array:
    """Yes and no as 0 and 1, where they are written as -1 and 1, or as 0 and 255."""
    if not (values == 1).any():
        full = values == _FULL_BYTE
        return full.astype(np.int16) if full.any() and (full | (values == 0)).all() else values
    return (values == 1).astype(np.int16) if (abs(values) == 1).all() else values
