"""The answers that a student learns from, computed by onnxruntime."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from graphopt.bridge.training.batches import Batch
from graphopt.errors import ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.session import Session

__all__ = ["Teacher"]

_CACHE_BYTES = 512 << 20


class Teacher:
    """A model that answers batches; what it said to a sample is kept where samples never change.

    Args:
        graph: The model.
        tensors: Which of its outputs and inner tensors to ask for.
        threads: Threads of onnxruntime; 0 for all cores.
        samples: How many samples there are, of which answers may be kept.
        joined: Inputs that batches join along their first axis; None where they join none.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """

    def __init__(
        self,
        graph: Graph,
        tensors: Sequence[str],
        *,
        threads: int,
        samples: int,
        joined: Collection[str] | None,
    ) -> None:
        self._session = Session(graph, outputs=tensors, threads=threads)
        self._samples = samples
        self._joined = joined
        self._kept: dict[str, Array] = {}
        self._known = np.zeros(samples, bool)
        self._one_by_one = False

    def __call__(self, batch: Batch, *, changed: bool = False) -> dict[str, Array]:
        """Answers to a batch by tensor name.

        Args:
            batch: The samples.
            changed: They are not what they will be the next time; nothing is kept.

        Raises:
            ModelError: The model cannot run on the batch.
        """
        if changed or not self._samples:
            return self._run(batch)
        if self._known[batch.numbers].all():
            return {name: kept[batch.numbers] for name, kept in self._kept.items()}
        answers = self._run(batch)
        self._keep(batch, answers)
        return answers

    def _run(self, batch: Batch) -> dict[str, Array]:
        if not self._one_by_one:
            try:
                return self._session.run(batch.feeds)
            except ModelError:
                if self._joined is None or len(batch.numbers) < 2:
                    raise
        found = [self._session.run(feeds) for feeds in self._single(batch)]
        self._one_by_one = True  # the file fixes a batch of one
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    def _single(self, batch: Batch) -> Iterator[dict[str, Array]]:
        for row in range(len(batch.numbers)):
            yield {
                name: array[row : row + 1] if name in (self._joined or ()) else array
                for name, array in batch.feeds.items()
            }

    def _keep(self, batch: Batch, answers: dict[str, Array]) -> None:
        count = len(batch.numbers)
        sizes = [a[0].nbytes for a in answers.values() if a.ndim and len(a) == count]
        if len(sizes) < len(answers) or sum(sizes) * self._samples > _CACHE_BYTES:
            self._samples = 0
            self._kept.clear()
            return
        for name, answer in answers.items():
            if name not in self._kept:
                self._kept[name] = np.zeros((self._samples, *answer.shape[1:]), answer.dtype)
            if self._kept[name].shape[1:] != answer.shape[1:]:
                self._samples = 0
                self._kept.clear()
                return
            self._kept[name][batch.numbers] = answer
        self._known[batch.numbers] = True
