"""Samples laid out on disk once, so that training can read them in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from graphopt.data.samples import Feeds, Samples
from graphopt.errors import SystemFailure
from graphopt.graph.tensors import Array

__all__ = ["Group", "StagedSamples", "staged"]


@dataclass
class Group:
    """Feeds of one sample each (or of the model's fixed batch) that agree in every shape.

    Attributes:
        arrays: Leading axis = feeds, then the shape of the feed; memory-mapped, never written.
        numbers: Of the first sample of each feed, among all samples: ``(feeds,)``.
    """

    arrays: dict[str, Array]
    numbers: NDArray[np.int64]


@dataclass(frozen=True)
class StagedSamples:
    """All samples, to be read in any order.

    Attributes:
        groups: Feeds by shape; those of a group may be joined to a batch.
        per_feed: Samples in each feed; more than one where the model fixes its batch.
        labels: Leading axis = samples; None without.
    """

    groups: Sequence[Group]
    per_feed: int
    labels: Array | None

    def digest(self) -> str:
        """A fingerprint of all values, hexadecimal."""
        total = hashlib.blake2b(digest_size=16)
        for group in self.groups:
            for name, array in group.arrays.items():
                total.update(f"{name}{array.shape}{array.dtype}".encode())
                for start in range(0, len(array), _BLOCK):
                    total.update(np.ascontiguousarray(array[start : start + _BLOCK]).tobytes())
        if self.labels is not None:
            total.update(np.ascontiguousarray(self.labels).tobytes())
        return total.hexdigest()


_BLOCK = 256


@dataclass
class _Pile:
    """Files that one group grows in."""

    files: dict[str, BinaryIO]
    like: Feeds
    numbers: list[int] = field(default_factory=list)


@contextmanager
def staged(samples: Samples, folder: Path) -> Iterator[StagedSamples]:
    """Write every sample once into files of ``folder`` and map them.

    The last feed of a model of fixed batch is left out where it is not full.

    Raises:
        DataError: The source gives other samples than it did when it was checked.
        SystemFailure: The disk is full.
    """
    piles: dict[object, _Pile] = {}
    number = per_feed = 0
    try:
        for feeds, real in samples.feeds(batch=1):
            if real < per_feed:
                break
            per_feed = real
            key = tuple((name, array.shape, array.dtype.str) for name, array in feeds.items())
            if key not in piles:
                piles[key] = _pile(folder, len(piles), feeds)
            for name, array in feeds.items():
                piles[key].files[name].write(np.ascontiguousarray(array).data)
            piles[key].numbers.append(number)
            number += real
        groups = [_mapped(pile) for pile in piles.values()]
    except OSError as err:
        raise SystemFailure(
            f"the training samples do not fit into the temporary folder: {err.strerror or err}; "
            "free space or set TMPDIR"
        ) from err
    finally:
        for pile in piles.values():
            for file in pile.files.values():
                file.close()
    yield StagedSamples(groups, per_feed, samples.labels)


def _pile(folder: Path, number: int, feeds: Feeds) -> _Pile:
    files: dict[str, BinaryIO] = {
        name: (folder / f"{number}-{index}.raw").open("w+b") for index, name in enumerate(feeds)
    }
    return _Pile(files, feeds)


def _mapped(pile: _Pile) -> Group:
    arrays: dict[str, Array] = {}
    for name, like in pile.like.items():
        pile.files[name].flush()
        shape = (len(pile.numbers), *like.shape)
        if like.size == 0:
            arrays[name] = np.zeros(shape, like.dtype)
        else:
            path = Path(pile.files[name].name)
            arrays[name] = np.memmap(path, dtype=like.dtype, mode="r", shape=shape)
    return Group(arrays, np.array(pile.numbers, np.int64))
