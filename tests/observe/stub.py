"""Samples for the tests of what is observed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphopt.data.samples import Feeds
from graphopt.graph.tensors import Array


@dataclass
class Stub:
    """Feeds in memory, each with its number of real rows."""

    held: Sequence[tuple[Feeds, int]]
    labels: Array | None = None

    @property
    def count(self) -> int:
        return sum(real for _, real in self.held)

    def feeds(self, batch: int = 1, limit: int | None = None) -> Iterator[tuple[Feeds, int]]:
        yield from self.held[:limit]
