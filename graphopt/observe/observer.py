"""One state of a graph, and what is known of its tensors: asked again, it is not run again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphopt.data.first import FirstSamples
from graphopt.data.samples import Samples
from graphopt.deadline import Deadline
from graphopt.errors import Need, PassError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.numerics.histogram import Histogram
from graphopt.numerics.moments import Moments
from graphopt.observe.plan import DEFAULT_BYTES
from graphopt.observe.request import Answers, Request
from graphopt.observe.run import observe
from graphopt.progress import Progress

__all__ = ["Observer"]


@dataclass(eq=False)
class Observer:
    """Answers requests about a graph, each by one run of the model, however often it is asked.

    Attributes:
        graph: The state that is asked about; nobody edits it while the observer lives.
        samples: What it runs on; None without.
        memory_limit: Bytes that observation may take beyond plain inference; None for 1 GB. The
            answers that are kept for later take as much again, the oldest go first.
        threads: Threads of onnxruntime; 0 for all cores.
        progress: Told after each run of the model.
        deadline: Asked before each run of the model.
    """

    graph: Graph
    samples: Samples | None
    memory_limit: int | None = None
    threads: int = 0
    progress: Progress | None = None
    deadline: Deadline = field(default_factory=Deadline)
    _kept: dict[tuple[Request[Any], int | None], Any] = field(default_factory=dict, repr=False)

    def ask(self, requests: Iterable[Request[Any]], limit: int | None = None) -> Answers:
        """Answers over the first ``limit`` samples or over all; only new questions run the model.

        Raises:
            PassError: There are no samples, or the time is over.
            DataError, ModelError, LimitError: As ``observe``; see ``Answers`` as well.
        """
        asked = list(dict.fromkeys(requests))
        if not asked:
            return Answers({})
        if self.samples is None:
            message = "the pass asks for statistics; it needs calibration samples"
            raise PassError(message, Need.CALIBRATION)
        if limit is not None and limit >= self.samples.count:
            limit = None
        new = observe(
            self.graph,
            [request for request in asked if (request, limit) not in self._kept],
            self.samples if limit is None else FirstSamples(self.samples, limit),
            memory_limit=self.memory_limit,
            threads=self.threads,
            progress=self.progress,
            deadline=self.deadline,
        )
        for request in new:
            answer = new.failure(request) or new[request]
            for array in _arrays(answer):
                array.flags.writeable = False  # whoever asks next gets the same array
            self._kept[request, limit] = answer
        answers = Answers({request: self._kept[request, limit] for request in asked})
        self._forget_oldest()
        return answers

    def _forget_oldest(self) -> None:
        most = DEFAULT_BYTES if self.memory_limit is None else self.memory_limit
        held = sum(map(_bytes_of, self._kept.values()))
        for key in list(self._kept):
            if held <= most:
                break
            held -= _bytes_of(self._kept.pop(key))


def _bytes_of(answer: object) -> int:
    """What the arrays of an answer take."""
    return sum(array.nbytes for array in _arrays(answer))


def _arrays(answer: object) -> Iterator[Array]:
    """The arrays of an answer: itself, in a list or tuple, or in a histogram or moments."""
    if isinstance(answer, np.ndarray):
        yield answer
    elif isinstance(answer, Histogram):
        yield answer.counts
    elif isinstance(answer, Moments):
        yield from (answer.mean, answer.covariance)
    elif isinstance(answer, list | tuple):
        for each in answer:
            yield from _arrays(each)
