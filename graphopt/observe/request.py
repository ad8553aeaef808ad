"""What can be asked about a tensor of a running model: requests that know how they are answered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.observe.taps import Tap

__all__ = ["Answers", "Folder", "Request", "Rows", "not_finite", "same_channels"]

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Rows:
    """How many leading rows of a feed are real samples.

    Attributes:
        real: Real samples.
        full: Rows of the feed.
        first: Whether this is the first feed.
        total: Real samples of all feeds; 0 where nobody knows.
    """

    real: int
    full: int
    first: bool
    total: int = 0

    def count(self, entries: int, leading: int | None) -> int:
        """How many of the first ``entries`` count, which lie in the order of a tensor's rows.

        Where the leading axis is not the batch, nobody can tell the filled-up rows apart: the
        feed is left out, unless it is the only one there is.

        Args:
            entries: Numbers taken of the tensor.
            leading: Size of its leading axis; None for a scalar.
        """
        if self.real >= self.full:
            return entries
        if leading == self.full:
            return entries * self.real // self.full
        return entries if self.first else 0

    def keep(self, values: Array) -> Array:
        """An output without the rows of samples that only fill up the feed.

        It stays whole where its leading axis is not as long as the feed, or it is no tensor.
        """
        if self.real < self.full and isinstance(values, np.ndarray) and values.ndim:
            return values[: self.real] if len(values) == self.full else values
        return values


class Folder(ABC, Generic[A]):
    """Builds up the answer to one request; ``taps`` is what it needs of each run."""

    taps: tuple[Tap, ...] = ()

    @abstractmethod
    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        """Take in what one run gave.

        Raises:
            DataError: The tensor holds values that are not finite.
        """

    @abstractmethod
    def result(self) -> A:
        """The answer so far."""


@dataclass(frozen=True)
class Request(ABC, Generic[A]):
    """Something to find out about one tensor of the main graph; ``A`` is the type of the answer.

    Requests are values: hashable, and equal where they ask for the same. One class holds all that
    an answer takes, so that a pass can bring a request of its own.
    """

    tensor: str

    @abstractmethod
    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[A]:
        """What builds up the answer.

        Args:
            shape: Of the tensor in the first run; later ones may differ in sizes.
            per_run: About how many values to look at in one run, where not all are needed.

        Raises:
            DataError: The tensor is not such that this can be asked of it.
        """

    def bytes(self, shape: tuple[int, ...]) -> int:
        """Most memory that the answer takes while it is built up, beyond copies of the tensor."""
        return 0

    def axis_of(self, shape: tuple[int, ...], axis: int) -> int:
        """``axis`` counted from the front.

        Raises:
            DataError: A tensor of this shape has no such axis.
        """
        if not -len(shape) <= axis < len(shape):
            raise DataError(f"tensor {self.tensor!r} of rank {len(shape)} has no axis {axis}")
        return axis % len(shape)


class Answers(Mapping[Request[Any], Any]):
    """Answers by request, each of the type that its request promises.

    Reading the answer to a request that cannot be answered raises why, a DataError: that a tensor
    is not finite on the samples is a matter of those who read it alone.
    """

    def __init__(self, answers: Mapping[Request[Any], Any]) -> None:
        self._answers = dict(answers)

    def __getitem__(self, request: Request[B]) -> B:
        answer: B | DataError = self._answers[request]
        if isinstance(answer, DataError):
            raise answer
        return answer

    def failure(self, request: Request[Any]) -> DataError | None:
        """Why a request cannot be answered; None where it can."""
        answer = self._answers[request]
        return answer if isinstance(answer, DataError) else None

    def __iter__(self) -> Iterator[Request[Any]]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)


def not_finite(tensor: str, what: str) -> DataError:
    """The error of a tensor that holds NaN or infinite values on the samples."""
    return DataError(
        f"tensor {tensor!r} holds {what} on the samples; it cannot be measured (check the samples "
        "and the model, or leave out the layers that read it)"
    )


def same_channels(tensor: str, so_far: Array, new: Array) -> None:
    """Refuse channels that change from one sample to another.

    Raises:
        DataError: They do.
    """
    if so_far.shape != new.shape:
        raise DataError(
            f"tensor {tensor!r} has {len(so_far)} channels on one sample and {len(new)} on another"
        )
