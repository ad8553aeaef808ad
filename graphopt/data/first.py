"""The first few of some samples, where all would take too long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.data.samples import Feeds, Samples, bytes_of
from graphopt.graph.tensors import Array

__all__ = ["FirstSamples"]


@dataclass(frozen=True)
class FirstSamples:
    """At most ``most`` samples of ``samples``, without their labels."""

    samples: Samples
    most: int

    @property
    def count(self) -> int:
        """Number of samples."""
        return min(self.samples.count, self.most)

    @property
    def nbytes(self) -> int:
        """About the bytes of their feeds."""
        return bytes_of(self.samples) * self.count // max(1, self.samples.count)

    @property
    def labels(self) -> Array | None:
        """Always None."""
        return None

    def feeds(self, batch: int = 1, limit: int | None = None) -> Iterator[tuple[Feeds, int]]:
        """As ``Samples.feeds``."""
        return self.samples.feeds(batch, min(self.most, limit or self.most))
