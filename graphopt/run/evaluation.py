"""How close models are to the one that is right, over samples: SQNR, agreement, the metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from graphopt.data.samples import Samples
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.numerics.sqnr import ErrorSums
from graphopt.observe.request import Rows
from graphopt.observe.run import with_rows
from graphopt.run.measuring import MetricAnswers
from graphopt.run.metrics import NamedMetric
from graphopt.run.record import Metric, Quality
from graphopt.runtime.batches import largest_batch
from graphopt.runtime.session import Session

__all__ = ["Tally", "answered", "evaluate"]

_BATCH = 16
_NUMBERS = "fiub"  # kinds of numpy's types that can be compared


class Tally:
    """Sums over samples from which SQNR and top-1 agreement follow, per output.

    An output that one side does not have is left out.
    """

    def __init__(self, outputs: Sequence[str]) -> None:
        self.sums = {name: ErrorSums() for name in outputs}
        self.same = dict.fromkeys(outputs, 0)
        self.positions = dict.fromkeys(outputs, 0)
        self.gone: set[str] = set()
        self.samples = 0

    def add(self, right: dict[str, Array], answer: dict[str, Array], rows: Rows) -> None:
        """Count one feed; of outputs with a row per sample only the real rows."""
        self.samples += rows.real
        for name in self.sums:
            if name not in right or name not in answer:
                self.gone.add(name)
                continue
            f, g = right[name], answer[name]
            if not isinstance(f, np.ndarray) or f.dtype.kind not in _NUMBERS or f.size == 0:
                continue
            if not isinstance(g, np.ndarray) or g.dtype.kind not in _NUMBERS or f.shape != g.shape:
                self.sums[name].fail()  # a sequence, texts or another shape where numbers were
                continue
            f, g = rows.keep(f), rows.keep(g)
            self.sums[name].add(f, g)
            axis = _class_axis(f)
            if axis is not None:
                same = f.argmax(axis) == g.argmax(axis)
                self.same[name] += int(same.sum())
                self.positions[name] += same.size

    def quality(self, source: str) -> Quality:
        """The figures so far; ``source`` says where the samples came from."""
        first = next((name for name in self.sums if self.positions[name]), None)
        return Quality(
            sqnr_db={n: sums.sqnr_db for n, sums in self.sums.items() if n not in self.gone},
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


def answered(
    graph: Graph,
    sessions: Sequence[Session],
    samples: Samples,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[list[dict[str, Array]], Rows]]:
    """The answers of all models to one feed after another, and what of them counts.

    Args:
        graph: Of the model whose inputs say which batch all get.
        sessions: Of the models; the first one says how many samples it takes at once.
        samples: All of them are run.
        progress: Called with the samples done and asked.

    Raises:
        ModelError: onnxruntime cannot run one of them.
    """
    done, batch = 0, largest_batch(sessions[0], samples, _BATCH)
    for feeds, rows in with_rows(graph, samples, batch):
        yield [session.run(feeds) for session in sessions], rows
        done += rows.real
        if progress is not None:
            progress(done, samples.count)


def evaluate(
    reference: Graph,
    sessions: Sequence[Session],
    samples: Samples,
    metric: NamedMetric | None,
    *,
    source: str,
    memory_limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Quality]:
    """Models against the first one over all samples: SQNR, agreement and, with labels, the metric.

    Args:
        reference: The graph of the first session.
        sessions: Of the models, each with its own outputs. The metric gets those of the
            reference, in its order, or where one of these is missing the model's own.
        samples: All of them are run.
        metric: What to measure with the labels of ``samples``.
        source: Where the samples are from, for the record.
        memory_limit: Bytes that the answers may take which are held for the metric.
        progress: Called with the samples done and asked.

    Raises:
        ModelError: onnxruntime cannot run one of them.
        DataError: The metric cannot be computed from the outputs and labels.
    """
    tallies = [Tally(reference.main.outputs) for _ in sessions[1:]]
    own = reference.main.outputs
    measured = [own if {*own} <= {*session.outputs} else session.outputs for session in sessions]
    held = None
    if metric is not None and samples.labels is not None:
        held = MetricAnswers(metric, measured, memory_limit)
    for answers, rows in answered(reference, sessions, samples, progress):
        for tally, answer in zip(tallies, answers[1:], strict=True):
            tally.add(answers[0], answer, rows)
        if held is not None:
            for number, answer in enumerate(answers):
                held.add(number, {name: rows.keep(values) for name, values in answer.items()})
    qualities = [tally.quality(source) for tally in tallies]
    if metric is None or held is None or samples.labels is None:
        return qualities
    before, *after = held.values(samples.labels)
    return [
        replace(quality, metric=Metric(metric[0], before, value))
        for quality, value in zip(qualities, after, strict=True)
    ]
