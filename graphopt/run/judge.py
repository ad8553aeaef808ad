"""The judge of a run: how close a graph's answers are to the input model's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from graphopt.data.first import FirstSamples
from graphopt.data.samples import Feeds, Samples
from graphopt.errors import DataError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.numerics.sqnr import ErrorSums
from graphopt.observe.request import Rows
from graphopt.observe.run import with_rows
from graphopt.run.metrics import NamedMetric
from graphopt.run.record import Metric, Quality
from graphopt.runtime.batches import largest_batch
from graphopt.runtime.session import Session

__all__ = ["Probe", "Sample", "evaluate"]

_HELD_BYTES = 64 << 20
_BATCH = 16


@dataclass(frozen=True)
class Sample:
    """One feed with what the reference answered; ``rows`` says what of it counts."""

    feeds: Feeds
    rows: Rows
    answers: dict[str, Array]


class Probe:
    """A few samples with the reference's answers, held in memory, to measure graphs against.

    Args:
        reference: The model that is right by definition.
        samples: Where feeds come from.
        source: ``eval``, ``calib`` or ``random``, for the record.
        limit: Most samples to hold; fewer are held where their outputs are large.
        threads: Threads of the sessions.
    """

    def __init__(
        self, reference: Graph, samples: Samples, source: str, limit: int, threads: int
    ) -> None:
        self.source, self.threads = source, threads
        self.outputs = reference.main.outputs
        self.samples = self._hold(reference, FirstSamples(samples, limit))

    def _hold(self, reference: Graph, samples: Samples) -> list[Sample]:
        session = Session(reference, threads=self.threads)
        held: list[Sample] = []
        total = 0
        for feeds, rows in with_rows(reference, samples):
            answers = session.run(feeds)
            held.append(Sample(feeds, rows, answers))
            total += sum(a.nbytes for a in answers.values() if isinstance(a, np.ndarray))
            total += sum(a.nbytes for a in feeds.values())
            if total > _HELD_BYTES:
                break
        return held

    def first(self, count: int) -> Probe:
        """A probe of at most ``count`` of these samples."""
        few = copy(self)
        few.samples = self.samples[:count]
        return few

    def run(self, graph: Graph) -> list[dict[str, Array]]:
        """The graph's answers to the held samples.

        Raises:
            ModelError: onnxruntime cannot load or run it.
        """
        session = Session(graph, threads=self.threads)
        return [session.run(sample.feeds) for sample in self.samples]

    def compare(
        self, answers: Sequence[dict[str, Array]], to: Sequence[dict[str, Array]] | None = None
    ) -> Quality:
        """Closeness of answers to the reference's, or to those of another run."""
        expected = [sample.answers for sample in self.samples] if to is None else to
        tally = Tally(self.outputs)
        for sample, right, answer in zip(self.samples, expected, answers, strict=True):
            tally.add(right, answer, sample.rows)
        return tally.quality(self.source)


class Tally:
    """Sums over samples from which SQNR and top-1 agreement follow, per output."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self.sums = {name: ErrorSums() for name in outputs}
        self.same = dict.fromkeys(outputs, 0)
        self.positions = dict.fromkeys(outputs, 0)
        self.samples = 0

    def add(self, right: dict[str, Array], answer: dict[str, Array], rows: Rows) -> None:
        """Count one feed; of outputs with a row per sample only the real rows."""
        self.samples += rows.real
        for name in self.sums:
            f, g = right[name], answer[name]
            if not isinstance(f, np.ndarray) or f.dtype.kind not in "fiub" or f.size == 0:
                continue
            if f.shape != g.shape:
                self.sums[name].fail()
                continue
            f, g = rows.keep(f), rows.keep(g)
            self.sums[name].add(f, g)
            axis = _class_axis(f)
            if axis is not None:
                same = f.argmax(axis) == g.argmax(axis)
                self.same[name] += int(same.sum())
                self.positions[name] += same.size

    def quality(self, source: str) -> Quality:
        first = next((name for name in self.sums if self.positions[name]), None)
        return Quality(
            sqnr_db={name: sums.sqnr_db for name, sums in self.sums.items()},
            agreement_top1=(
                None if first is None else 100 * self.same[first] / self.positions[first]
            ),
            samples=self.samples,
            source=source,
        )


def _class_axis(values: Array) -> int | None:
    """Axis of the classes where an output looks like logits or probabilities, else None.

    That is the last one, or axis 1 of pictures. Rows of unit length are embeddings. Where some
    values are not finite there is no largest one.
    """
    if values.dtype.kind != "f" or values.ndim < 2:
        return None
    axis = 1 if values.ndim >= 4 else -1
    if values.shape[axis] < 2 or not np.isfinite(values).all():
        return None
    lengths = np.linalg.norm(values.astype(np.float64), axis=axis)
    sums = values.sum(axis=axis, dtype=np.float64)
    unit = np.allclose(lengths, 1, atol=1e-3) and not np.allclose(sums, 1, atol=1e-3)
    return None if unit else axis


def evaluate(
    reference: Graph,
    graphs: Sequence[Graph],
    samples: Samples,
    metric: NamedMetric | None,
    *,
    source: str,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Quality]:
    """Models against one over all samples: SQNR, agreement and, with labels, the metric.

    Raises:
        ModelError: onnxruntime cannot run one of them.
        DataError: The metric cannot be computed from the outputs and labels.
    """
    models = [reference, *graphs]
    tallies = [Tally(reference.main.outputs) for _ in graphs]
    sessions = [Session(graph, threads=threads) for graph in models]
    kept: list[list[list[Array]]] = [[] for _ in models]
    done = 0
    batch = largest_batch(sessions[0], samples, _BATCH)
    for feeds, rows in with_rows(reference, samples, batch):
        answers = [session.run(feeds) for session in sessions]
        for tally, answer in zip(tallies, answers[1:], strict=True):
            tally.add(answers[0], answer, rows)
        if metric is not None:
            for store, answer in zip(kept, answers, strict=True):
                store.append([rows.keep(answer[name]) for name in reference.main.outputs])
        done += rows.real
        if progress is not None:
            progress(done, samples.count)
    found = [tally.quality(source) for tally in tallies]
    if metric is None or samples.labels is None:
        return found
    before, *after = (_measured(metric, store, samples.labels) for store in kept)
    return [
        replace(quality, metric=Metric(metric[0], before, value))
        for quality, value in zip(found, after, strict=True)
    ]


def _measured(metric: NamedMetric, answers: Sequence[Sequence[Array]], labels: Array) -> float:
    """The metric of one model, from its answers to one feed after another."""
    name, function = metric
    try:
        merged = [
            np.concatenate([*map(np.atleast_1d, parts)]) for parts in zip(*answers, strict=True)
        ]
        return float(function(merged, labels))
    except Exception as err:  # whatever a function of the user's raises
        raise DataError(
            f"metric {name!r} cannot be computed from the outputs and labels: "
            f"{type(err).__name__}: {err}"
        ) from err
