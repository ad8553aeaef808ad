"""Samples over any source of parts: checked against the model, cut and joined into feeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from graphopt.data.claims import Claims, check_feed, rows_per_block
from graphopt.data.columns import Column, Part
from graphopt.data.inputs import Input
from graphopt.data.joining import Joiner, row_count
from graphopt.data.layout import Table, fit
from graphopt.data.samples import Feeds, Samples
from graphopt.errors import DataError
from graphopt.graph.tensors import Array

__all__ = ["CheckedSamples", "check", "told_of"]

_FILLED_UP = -100
"""What labels are filled up with where samples have fewer than others; no class anywhere."""
_LISTED = 12
"""Most classes that are listed by name."""


@dataclass(frozen=True)
class CheckedSamples:
    """Samples whose names, shapes, dtypes and values were all looked at once.

    Attributes:
        place: The source as messages say it.
        parts: Gives the parts from the first, each time it is called.
        inputs: What the model takes.
        single: Whether an array of a part may be one sample without the batch axis.
        count: Number of samples.
        labels: Leading axis = samples, or groups of samples (pairs); None without.
        most: Bytes that a feed may take.
        nbytes: Bytes of all feeds, one at a time or by the model's fixed batch.
        notes: What was done to samples and should be told, in words; grows as they are read.
        joined: Whether no feed that cannot be joined has more than one sample.
        only: Which rows of the source are samples: ``(rows,)``; None for all.
        classes: Subfolders that gave the labels, in sorted order; empty where others did.
    """

    place: str
    parts: Callable[[], Iterator[Part]]
    inputs: Sequence[Input]
    single: bool
    count: int
    labels: Array | None
    most: int
    nbytes: int
    notes: Callable[[], Sequence[str]] = tuple
    joined: bool = True
    only: NDArray[np.bool_] | None = None
    classes: tuple[str, ...] = ()

    def part(self, only: NDArray[np.bool_]) -> CheckedSamples:
        """Some of these samples, without their labels; ``only`` says which: ``(count,)``."""
        count = int(only.sum())
        nbytes = self.nbytes * count // self.count
        return replace(self, count=count, labels=None, only=only, nbytes=nbytes, classes=())

    def feeds(self, batch: int = 1, limit: int | None = None) -> Iterator[tuple[Feeds, int]]:
        """Feeds of up to ``batch`` samples, with the number of real ones in each.

        Samples are joined as long as their shapes agree and a feed does not get too large; a model
        of fixed batch gets that batch, its ragged end filled up with the last sample. A sample
        without batch axis is a feed.

        Raises:
            DataError: The source gives other samples than it did when it was checked.
        """
        left = self.count if limit is None else min(limit, self.count)
        grouped = _grouped(self._tables(), Joiner(max(1, batch), self.most), left, self.only)
        while left > 0:
            feeds, real = next(grouped, ({}, 0))
            if real == 0:
                raise DataError(
                    f"{self.place}: {left} of {self.count} samples are missing when it is read "
                    "again; a function must start anew at each call"
                )
            yield feeds, min(real, left)
            left -= real

    def _tables(self) -> Iterator[Table]:
        for part in self.parts():
            table = fit(part, self.inputs, single=self.single)
            check_feed(table, self.most)
            yield table


def check(
    place: str,
    parts: Callable[[], Iterator[Part]],
    inputs: Sequence[Input],
    *,
    single: bool,
    most: int,
    labels: Callable[[], Column] | None = None,
    values: bool = True,
    notes: Callable[[], Sequence[str]] = tuple,
    classes: Mapping[str, str] | None = None,
) -> CheckedSamples:
    """Go through a source once and make samples of it.

    Args:
        place: The source as messages say it.
        parts: Gives the parts from the first, each time it is called.
        inputs: What the model takes.
        single: Whether an array of a part may be one sample without the batch axis.
        most: Bytes that a feed may take.
        labels: Labels that lie apart from the parts.
        values: Look at every value; False where a source cannot hold NaN and is slow to read.
        notes: What is to be told of the samples; asked for after they were read.
        classes: The class of each part by its place, where no labels are given.

    Raises:
        DataError: A part does not fit the model, holds NaN or infinity, there is no sample, or
            there is more than anybody needs (``graphopt.data.bounds``).
    """
    claims, found, single_rows = Claims(place), list[Array](), True
    foldered = list[Array]()
    for number, part in enumerate(parts()):
        table = fit(part, inputs, single=single)
        claims.add(table, part.stored)
        check_feed(table, most)
        single_rows &= not table.alone or table.rows_per_feed == 1
        if values or number == 0:
            table.shared()
            for _ in table.blocks(rows_per_block(table)):
                pass
        if table.labels is not None:
            found.append(_read_labels(table.labels, table.place))
        elif classes:
            foldered.append(np.full(table.count, classes[table.place]))
    if claims.samples == 0:
        raise DataError(f"{place}: empty, there is no sample in it")
    if labels is not None:
        column = labels()
        claims.add_labels(column.nbytes, column.shape)
        found = [_read_labels(column, place)]
    names: tuple[str, ...] = ()
    if foldered and not found:
        found, names = foldered, tuple(sorted(set((classes or {}).values())))
        claims.add_labels(claims.samples * max(np.array(names).itemsize, 1), (claims.samples,))
    joined = _joined_labels(found, claims.samples, place)
    count, fed = claims.samples, claims.fed
    return CheckedSamples(
        place,
        parts,
        inputs,
        single,
        count,
        joined,
        most,
        fed,
        notes,
        joined=single_rows,
        classes=names,
    )


def told_of(*sources: Samples | None) -> list[str]:
    """What should be told of the samples that were read, each place once."""
    checked = [each for each in sources if isinstance(each, CheckedSamples)]
    return list(dict.fromkeys(f"{each.place}: {note}" for each in checked for note in _notes(each)))


def _notes(samples: CheckedSamples) -> list[str]:
    classes = samples.classes
    if not classes:
        return list(samples.notes())
    more = f", ... {classes[-1]}" if len(classes) > _LISTED else ""
    listed = f"{', '.join(classes[:_LISTED])}{more}"
    return [f"{len(classes)} classes from subfolders: {listed}", *samples.notes()]


def _read_labels(column: Column, place: str) -> Array:
    labels = column.whole()
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError(f"{place}: the labels hold NaN or infinity")
    return np.atleast_1d(labels)


def _joined_labels(found: list[Array], count: int, place: str) -> Array | None:
    """One array of all labels; each label belongs to one sample or to as many as any other."""
    if not found:
        return None
    try:
        labels = np.concatenate(_padded(found, place))
    except ValueError as err:
        raise DataError(f"{place}: the labels differ in shape: {err}") from err
    if len(labels) == 0 or count % len(labels):
        raise DataError(f"{place}: {len(labels)} labels for {count} samples")
    return labels


def _padded(found: Sequence[Array], place: str) -> Sequence[Array]:
    """Labels of one size: those of some tokens, boxes or pixels are filled up with -100.

    Raises:
        DataError: They would be too large.
    """
    shapes = {each.shape[1:] for each in found}
    ranks, kinds = {len(shape) for shape in shapes}, {each.dtype.kind for each in found}
    if len(shapes) == 1 or len(ranks) > 1 or not kinds <= set("biuf"):
        return found
    size = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    dtype = np.result_type(np.int16, *found)
    count = sum(map(len, found))
    Claims(place).add_labels(count * math.prod(size) * dtype.itemsize, (count, *size))
    labels = np.full((count, *size), _FILLED_UP, dtype)
    at = 0
    for each in found:
        labels[(slice(at, at + len(each)), *(slice(n) for n in each.shape[1:]))] = each
        at += len(each)
    return [labels]


def _grouped(
    tables: Iterator[Table], joiner: Joiner, left: int, only: NDArray[np.bool_] | None
) -> Iterator[tuple[Feeds, int]]:
    """Feeds of the batch that the model takes, joined across tables, of the first ``left``."""
    at = 0
    for table in tables:
        yield from joiner.begin(table)
        if table.alone:
            for feeds in table.feeds_alone():
                if only is None or only[at : at + 1].any():
                    yield feeds, table.rows_per_feed
                    left -= table.rows_per_feed
                at += table.rows_per_feed
            continue
        for read in table.blocks(joiner.size):
            block, at = _chosen(read, only, at), at + row_count(read)
            if row_count(block):
                yield from joiner.add({name: rows[:left] for name, rows in block.items()})
                left -= row_count(block)
            if left <= 0:
                yield from joiner.flush()
                return
    yield from joiner.flush()


def _chosen(block: Feeds, only: NDArray[np.bool_] | None, at: int) -> Feeds:
    """Those rows of a block that are samples; its first one is row ``at`` of the source."""
    if only is None:
        return block
    numbers = np.flatnonzero(only[at : at + row_count(block)])
    return {name: rows[numbers] for name, rows in block.items()}
