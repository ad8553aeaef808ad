"""Which samples are trained on, held out, and joined to batches; all a function of the seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.bridge.training.strata import spread_out
from graphopt.data.staged import StagedGroup, StagedSamples
from graphopt.errors import PassError
from graphopt.graph.tensors import Array

__all__ = ["HELD_OUT_GROUPS", "Batch", "Batches"]

HELD_OUT_GROUPS = 16
"""At most so many groups of held-out samples tell how much a figure of them varies."""
_MOST_HELD_OUT = 2000


@dataclass(frozen=True)
class Batch:
    """Samples that go through the model together.

    Attributes:
        feeds: By input name, joined along the first axis.
        numbers: Of the samples, among all: ``(samples,)``.
        labels: ``(samples, ...)``; None without.
        weight: Of the mean loss over this batch in the loss of the step. Over the pieces of a
            process the weights sum to 1 in the mean over all processes.
    """

    feeds: dict[str, Array]
    numbers: NDArray[np.int64]
    labels: Array | None
    weight: float = 1.0


class Batches:
    """The samples cut into a training and a held-out part, and into batches.

    Args:
        samples: All of them; labels only if there is one for each.
        size: Samples in an optimizer step.
        parts: Pieces that a step's samples are cut into.
        held_out: Share that is not trained on; at most 2,000 feeds.
        seed: Of the cut and of the order.
        joined: Names of the inputs that are joined along their first axis; the others are the
            same for all samples. None where feeds cannot be joined: each is a piece.
        share: This process and how many there are; each takes its samples of every step.
        strata: The class of each sample; of every class some are held out. None for no classes.

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
        strata: NDArray[np.int64] | None = None,
    ) -> None:
        self._samples = samples
        self._size = size
        self._parts = parts
        self._joined = joined
        self._seed = seed
        self._share = share
        places = np.array(
            [(g, row) for g, group in enumerate(samples.groups) for row in range(len(group))]
        ).reshape(-1, 2)
        kept = min(_MOST_HELD_OUT, round(held_out * len(places)))
        if held_out and not 0 < kept < len(places):
            raise PassError(
                f"{len(places)} samples are too few to hold out {held_out:.0%} of them; give more "
                "samples or held_out=0"
            )
        mixed = np.random.default_rng([seed, 0]).permutation(len(places))
        if strata is not None and all(group.per_feed == 1 for group in samples.groups):
            numbers = [samples.groups[group].numbers[row] for group, row in places[mixed]]
            mixed = mixed[spread_out(strata[numbers], kept)]
        self._held_out = places[np.sort(mixed[:kept])]
        self._trained = places[np.sort(mixed[kept:])]
        self._epoch: tuple[int, list[_Rows]] = (0, self._shuffled(0))
        self.per_epoch = len(self._epoch[1])
        """Optimizer steps in one pass over the training part."""

    @property
    def count(self) -> int:
        """Number of samples that are trained on."""
        return self._counted(self._trained)

    @property
    def held_out_count(self) -> int:
        """Number of samples that are not."""
        return self._counted(self._held_out)

    def _counted(self, places: NDArray[np.int64]) -> int:
        return sum(self._samples.groups[group].per_feed for group in places[:, 0])

    def example(self) -> Batch:
        """Some samples that are trained on, the same in all processes."""
        return next(self.examples(1))

    def examples(self, count: int) -> Iterator[Batch]:
        """At least so many samples that are trained on, or all; the same in all processes."""
        for group, rows in self._shuffled(0):
            for part in [rows] if self._joined is not None else rows[:, None]:
                batch = self._batch(group, part)
                yield batch
                count -= len(batch.numbers)
                if count <= 0:
                    return

    @property
    def held_out_groups(self) -> int:
        """How many groups of held-out samples there are."""
        return min(HELD_OUT_GROUPS, len(self._pieces()))

    def held_out(self) -> Iterator[tuple[int, Batch]]:
        """What of the held-out part is this process's, always in the same pieces, with groups."""
        rank, world = self._share
        for place, (number, rows) in list(enumerate(self._pieces()))[rank::world]:
            yield place % HELD_OUT_GROUPS, self._batch(number, rows)

    def _pieces(self) -> list[_Rows]:
        """The held-out part in pieces, small enough for groups that tell of its noise."""
        pieces: list[_Rows] = []
        for number, group in enumerate(self._samples.groups):
            rows = self._held_out[self._held_out[:, 0] == number, 1]
            size = max(1, self._feeds_a_step(group) // self._parts)
            size = min(size, -(-len(self._held_out) // HELD_OUT_GROUPS))
            pieces += [(number, part) for part in self._cut(rows, -(-len(rows) // size))]
        return pieces

    def at(self, step: int) -> list[Batch]:
        """The pieces of a step that are this process's; each epoch has its own order."""
        epoch, place = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._shuffled(epoch)
        number, rows = self._epoch[1][place]
        rank, world = self._share
        mine = rows[rank::world]
        if not len(mine):  # all processes must take part in every step
            return [self._batch(number, rows[:1], 0.0)]
        return [
            self._batch(number, part, len(part) * world / len(rows))
            for part in self._cut(mine, self._parts)
        ]

    def _feeds_a_step(self, group: StagedGroup) -> int:
        return max(1, self._size // group.per_feed)

    def _shuffled(self, epoch: int) -> list[_Rows]:
        """The feeds of each step of one epoch: of one group, and of its rest only if alone."""
        rng = np.random.default_rng([self._seed, 1, epoch])
        cut: list[_Rows] = []
        for number, group in enumerate(self._samples.groups):
            size = self._feeds_a_step(group)
            rows = rng.permutation(self._trained[self._trained[:, 0] == number, 1])
            full = [rows[start : start + size] for start in range(0, len(rows), size)]
            if len(full) > 1 and len(full[-1]) < size:
                full.pop()
            cut.extend((number, part) for part in full)
        return [cut[index] for index in rng.permutation(len(cut))]

    def _cut(self, rows: NDArray[np.int64], parts: int) -> list[NDArray[np.int64]]:
        """Rows in so many pieces of like size, or each alone where they cannot be joined."""
        count = min(parts, len(rows)) if self._joined is not None else len(rows)
        return np.array_split(rows, count) if count else []

    def _batch(self, number: int, rows: NDArray[np.int64], weight: float = 1.0) -> Batch:
        group, labels = self._samples.groups[number], self._samples.labels
        numbers = (group.numbers[rows][:, None] + np.arange(group.per_feed)).reshape(-1)
        feeds = {
            name: taken.reshape(-1, *taken.shape[2:])
            if self._joined is not None and name in self._joined
            else taken[0, ...]
            for name, taken in group.take(rows).items()
        }
        return Batch(feeds, numbers, None if labels is None else labels[numbers], weight)


_Rows = tuple[int, NDArray[np.int64]]
"""The number of a group, and rows of it."""
