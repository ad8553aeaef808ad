"""Samples as every room sees them: feeds that fit the model's inputs, any number of times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from graphopt.graph.tensors import Array

__all__ = ["Feeds", "Samples", "bytes_of"]

Feeds = dict[str, Array]
"""One array per required input of the model, with the batch that the model takes."""


class Samples(Protocol):
    """Checked samples; iterating again starts from the first."""

    @property
    def count(self) -> int:
        """Number of samples."""

    @property
    def labels(self) -> Array | None:
        """Labels, leading axis = samples (or pairs of samples); None without."""

    def feeds(self, batch: int = 1, limit: int | None = None) -> Iterator[tuple[Feeds, int]]:
        """Feeds of up to ``batch`` samples with the number of real samples in each.

        A model of fixed batch gets its own batch size; the ragged end is filled up by repeating
        the last sample, and the number says how many leading rows are real.
        """


def bytes_of(samples: Samples) -> int:
    """Bytes of all feeds, one at a time or by the model's fixed batch; 0 where nobody counted."""
    return int(getattr(samples, "nbytes", 0))
