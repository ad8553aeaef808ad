"""Rows of samples joined to feeds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphopt.data.claims import rows_per_feed
from graphopt.data.layout import Table
from graphopt.data.samples import Feeds

__all__ = ["Joiner", "row_count"]


class Joiner:
    """Rows that wait until there are enough of them for a feed, of ``most`` bytes at most."""

    def __init__(self, batch: int, most: int) -> None:
        self.batch = self.size = batch
        self.most = most
        self.fixed = False
        self.shared: Feeds = {}
        self.waiting: Feeds = {}

    def begin(self, table: Table) -> Iterator[tuple[Feeds, int]]:
        """Get ready for the rows of a table; what cannot be joined with them goes out."""
        shared = {} if table.alone else table.shared()
        size = table.batch or rows_per_feed(table, self.batch, self.most)
        if table.alone or size != self.size or not _same(shared, self.shared):
            yield from self.flush()
        self.shared, self.size, self.fixed = shared, size, table.batch is not None

    def add(self, block: Feeds) -> Iterator[tuple[Feeds, int]]:
        """Take in rows of up to one feed; give out a feed as soon as one is full."""
        if self.waiting and not _joinable(self.waiting, block):
            yield from self.flush()
        if self.waiting:
            block = {name: np.concatenate([self.waiting[name], block[name]]) for name in block}
        self.waiting = block
        if row_count(block) >= self.size:
            self.waiting = {name: rows[: self.size] for name, rows in block.items()}
            yield from self.flush()
            if row_count(block) > self.size:
                self.waiting = {name: rows[self.size :] for name, rows in block.items()}

    def flush(self) -> Iterator[tuple[Feeds, int]]:
        """Give out what waits, filled up where the model fixes the batch."""
        if not self.waiting:
            return
        real = row_count(self.waiting)
        feeds, self.waiting = self.waiting, {}
        if self.fixed and real < self.size:
            missing = self.size - real
            feeds = {
                name: np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
                for name, rows in feeds.items()
            }
        yield {**feeds, **self.shared}, real


def row_count(block: Feeds) -> int:
    """Samples in a block, whose arrays all have as many rows."""
    return len(next(iter(block.values())))


def _joinable(first: Feeds, second: Feeds) -> bool:
    return first.keys() == second.keys() and all(
        first[name].shape[1:] == second[name].shape[1:] for name in first
    )


def _same(first: Feeds, second: Feeds) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )
