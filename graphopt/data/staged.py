"""Samples laid out on disk once, so that training can read them in any order."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.data.bounds import bytes_in_words
from graphopt.data.samples import Feeds, Samples, bytes_of
from graphopt.errors import DataError, SystemFailure
from graphopt.graph.tensors import Array

__all__ = ["StagedColumn", "StagedGroup", "StagedSamples", "staged"]

_CHUNK_BYTES = 16 << 20


@dataclass(frozen=True)
class StagedColumn:
    """One input in a group.

    Attributes:
        shape: Of one feed.
        dtype: Of its elements.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of one feed."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class StagedGroup:
    """Feeds that agree in every shape, each of one sample or of the model's fixed batch.

    Attributes:
        columns: The inputs by name.
        per_feed: Samples in each feed.
        numbers: Of the first sample of each feed, among all samples: ``(feeds,)``.
        places: Where each feed begins in ``store``: ``(feeds,)``.
        store: The bytes of all groups, mapped from disk.
    """

    columns: Mapping[str, StagedColumn]
    per_feed: int
    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    store: NDArray[np.uint8]

    def __len__(self) -> int:
        """Number of feeds."""
        return len(self.numbers)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> dict[str, Array]:
        """Copies of some feeds by input name: ``(rows, ...)`` with the shape of a feed behind."""
        found: dict[str, Array] = {}
        before = 0
        for name, column in self.columns.items():
            values = np.empty((len(rows), *column.shape), column.dtype)
            raw = values.reshape(len(rows), -1).view(np.uint8) if values.size else None
            for index, place in enumerate(self.places[rows] + before):
                if raw is not None:
                    raw[index] = self.store[place : place + column.nbytes]
            found[name] = values
            before += column.nbytes
        return found


@dataclass(frozen=True)
class StagedSamples:
    """All samples, to be read in any order.

    Attributes:
        groups: Feeds by shape; those of a group may be joined to a batch.
        labels: Leading axis = samples, or groups of samples; None without.
    """

    groups: Sequence[StagedGroup]
    labels: Array | None

    def digest(self) -> str:
        """A fingerprint of all values, hexadecimal."""
        total = hashlib.blake2b(digest_size=16)
        for group in self.groups:
            columns = [(n, c.shape, c.dtype.str) for n, c in group.columns.items()]
            total.update(repr((columns, group.per_feed)).encode())
            total.update(group.numbers.tobytes())
        store = self.groups[0].store
        for start in range(0, len(store), _CHUNK_BYTES):
            total.update(store[start : start + _CHUNK_BYTES].data)
        if self.labels is not None:
            total.update(repr((self.labels.shape, self.labels.dtype.str)).encode())
            total.update(np.ascontiguousarray(self.labels).data)
        return total.hexdigest()


@dataclass
class _Pile:
    """What is known of a group while it grows."""

    columns: dict[str, StagedColumn]
    per_feed: int
    numbers: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


@contextmanager
def staged(samples: Samples, folder: Path) -> Iterator[StagedSamples]:
    """Write every sample once into a file of ``folder`` and map it.

    The last feed of a model of fixed batch is left out where it is not full.

    Raises:
        DataError: The source gives other samples than it did when it was checked, or text.
        SystemFailure: The disk is full, or has no room for them.
    """
    needed, free = bytes_of(samples), shutil.disk_usage(folder).free
    if needed > free:
        raise SystemFailure(
            f"the training samples take {bytes_in_words(needed)} on disk and the temporary folder "
            f"has {bytes_in_words(free)}; free space, set TMPDIR, or give fewer samples"
        )
    path = folder / "samples.raw"
    try:
        piles = _written(samples, path)
    except OSError as err:
        raise SystemFailure(
            f"the training samples do not fit into the temporary folder: {err.strerror or err}; "
            "free space or set TMPDIR"
        ) from err
    if path.stat().st_size:
        store: NDArray[np.uint8] = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    else:
        store = np.zeros(0, np.uint8)
    groups = [
        StagedGroup(
            pile.columns, pile.per_feed, np.array(pile.numbers), np.array(pile.places), store
        )
        for pile in piles
    ]
    yield StagedSamples(groups, samples.labels)


def _written(samples: Samples, path: Path) -> list[_Pile]:
    """Lay the feeds one behind the other into a file; tells what lies where."""
    piles: dict[object, _Pile] = {}
    number = place = 0
    with path.open("wb") as file:
        for feeds, real in samples.feeds(batch=1):
            columns = _columns(feeds)
            key = tuple((name, c.shape, c.dtype.str) for name, c in columns.items())
            pile = piles.setdefault(key, _Pile(columns, real))
            if real == pile.per_feed:
                pile.numbers.append(number)
                pile.places.append(place)
                for array in feeds.values():
                    file.write(array.tobytes())
                    place += array.nbytes
            number += real
    return list(piles.values())


def _columns(feeds: Feeds) -> dict[str, StagedColumn]:
    for name, array in feeds.items():
        if array.dtype.kind in "OSU":
            raise DataError(f"input {name!r} is text; a model of text cannot be trained")
    return {name: StagedColumn(array.shape, array.dtype) for name, array in feeds.items()}
