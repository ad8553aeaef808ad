"""Which samples are trained on, held out, and joined to batches; all a function of the seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.data.staged import Group, StagedSamples
from graphopt.errors import PassError
from graphopt.graph.tensors import Array

__all__ = ["Batch", "Batches"]

_MOST_HELD_OUT = 2000


@dataclass(frozen=True)
class Batch:
    """Samples that go through the model together.

    Attributes:
        feeds: By input name, joined along the first axis.
        numbers: Of the samples, among all: ``(samples,)``.
        labels: ``(samples, ...)``; None without.
    """

    feeds: dict[str, Array]
    numbers: NDArray[np.int64]
    labels: Array | None


class Batches:
    """The samples cut into a training and a held-out part, and into batches.

    Args:
        samples: All of them.
        size: Samples in an optimizer step.
        parts: Pieces that a step's samples are cut into.
        held_out: Share that is not trained on; at most 2,000 feeds.
        seed: Of the cut and of the order.
        joined: Names of the inputs that are joined along their first axis; the others are the
            same for all samples. None where feeds cannot be joined: each is a piece.
        share: This process and how many there are; each takes its samples of every step.

    Raises:
        PassError: There are not enough samples for both parts.
    """

    def __init__(
        self,
        samples: StagedSamples,
        *,
        size: int,
        parts: int = 1,
        held_out: float,
        seed: int,
        joined: frozenset[str] | None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._samples = samples
        self._joined = joined
        self._seed = seed
        self._share = share
        feeds = max(1, size // samples.per_feed)
        self._feeds_a_step = feeds
        self._piece = -(-feeds // (parts * share[1])) if joined is not None else 1
        places = np.array(
            [(g, row) for g, part in enumerate(samples.groups) for row in range(len(part.numbers))]
        ).reshape(-1, 2)
        kept = min(_MOST_HELD_OUT, round(held_out * len(places)))
        if held_out and not 0 < kept < len(places):
            raise PassError(
                f"{len(places)} samples are too few to hold out {held_out:.0%} of them; give more "
                "samples or held_out=0"
            )
        mixed = np.random.default_rng([seed, 0]).permutation(len(places))
        self._held_out = places[np.sort(mixed[:kept])]
        self._trained = places[np.sort(mixed[kept:])]
        self._epoch: tuple[int, list[_Rows]] = (-1, [])

    @property
    def count(self) -> int:
        """Number of samples that are trained on."""
        return len(self._trained) * self._samples.per_feed

    @property
    def held_out_count(self) -> int:
        """Number of samples that are not."""
        return len(self._held_out) * self._samples.per_feed

    @property
    def per_epoch(self) -> int:
        """Optimizer steps in one pass over the training part; at least one."""
        return len(self._cut(0))

    def held_out(self) -> Iterator[Batch]:
        """The held-out part, always in the same pieces."""
        for group in range(len(self._samples.groups)):
            rows = self._held_out[self._held_out[:, 0] == group, 1]
            yield from self._pieces(group, rows)

    def at(self, step: int) -> list[Batch]:
        """The pieces of a step that are this process's; each epoch has its own order."""
        epoch, place = divmod(step, self.per_epoch)
        group, rows = self._cut(epoch)[place]
        rank, world = self._share
        return list(self._pieces(group, rows[rank::world] if len(rows) >= world else rows))

    def _cut(self, epoch: int) -> list[_Rows]:
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._shuffled(epoch)
        return self._epoch[1]

    def _shuffled(self, epoch: int) -> list[_Rows]:
        """The feeds of each step of one epoch: of one group, and of its rest only if alone."""
        rng = np.random.default_rng([self._seed, 1, epoch])
        size, cut = self._feeds_a_step, list[_Rows]()
        for group in range(len(self._samples.groups)):
            rows = rng.permutation(self._trained[self._trained[:, 0] == group, 1])
            full = [rows[start : start + size] for start in range(0, len(rows), size)]
            if len(full) > 1 and len(full[-1]) < size:
                full.pop()
            cut.extend((group, part) for part in full)
        return [cut[index] for index in rng.permutation(len(cut))]

    def _pieces(self, group: int, rows: NDArray[np.int64]) -> Iterator[Batch]:
        for start in range(0, len(rows), self._piece):
            yield self._batch(self._samples.groups[group], rows[start : start + self._piece])

    def _batch(self, group: Group, rows: NDArray[np.int64]) -> Batch:
        samples = self._samples
        numbers = (group.numbers[rows][:, None] + np.arange(samples.per_feed)).reshape(-1)
        labels = None if samples.labels is None else samples.labels[numbers]
        feeds: dict[str, Array] = {}
        for name, array in group.arrays.items():
            if self._joined is not None and name in self._joined:
                taken = np.asarray(array[rows])
                feeds[name] = taken.reshape(-1, *taken.shape[2:])
            else:
                feeds[name] = np.array(array[rows[0]])
        return Batch(feeds, numbers, labels)


_Rows = tuple[int, NDArray[np.int64]]
"""A group, and rows of it."""
