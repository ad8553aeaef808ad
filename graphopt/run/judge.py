"""The judge of a run: how close a graph's answers are to the input model's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import psutil

from graphopt.data.first import FirstSamples
from graphopt.data.samples import Feeds, Samples
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import DataError, ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.numerics.sqnr import ErrorSums
from graphopt.observe.request import Rows
from graphopt.observe.run import with_rows
from graphopt.run.metrics import NamedMetric
from graphopt.run.record import Metric, Quality
from graphopt.runtime.batches import largest_batch
from graphopt.runtime.session import Session

__all__ = ["HELD_WEIGHTS_BYTES", "Judge", "Sample", "Tally", "choose_judge", "evaluate"]

HELD_WEIGHTS_BYTES = 256 << 20
"""Sessions of models with more weights than that are made anew whenever they are wanted."""
_HELD_BYTES = 64 << 20
_BATCH = 16
_SAMPLES = 32
_RUN_FACTOR = 3
"""onnxruntime holds the weights as read, as initializers and packed for its kernels."""
_DEFAULT_BYTES = 3 << 30
_TRAINED_ON = "measured on samples that were trained on; give --eval DATA for figures that count"


@dataclass(frozen=True)
class Sample:
    """One feed with what the reference answered; ``rows`` says what of it counts."""

    feeds: Feeds
    rows: Rows
    answers: dict[str, Array]


class Judge:
    """A few samples with the reference's answers, held in memory, to measure graphs against.

    Args:
        reference: The model that is right by definition.
        samples: Where feeds come from.
        source: ``eval``, ``calib``, ``train`` or ``random``, for the record.
        threads: Threads of the sessions.
        limit: Most samples to hold; fewer are held where their outputs are large.

    Raises:
        DataError: The samples do not fit.
        ModelError: onnxruntime cannot run the reference on them.
    """

    def __init__(
        self,
        reference: Graph,
        samples: Samples,
        source: str,
        *,
        threads: int = 0,
        limit: int = _SAMPLES,
    ) -> None:
        self.reference, self.source, self.threads = reference, source, threads
        self.outputs = reference.main.outputs
        self._session: Session | None = None
        self.samples = self._hold(FirstSamples(samples, limit))

    @property
    def session(self) -> Session:
        """A session of the reference; held unless its weights are large."""
        session = self._session or Session(self.reference, threads=self.threads)
        if self.reference.weight_bytes <= HELD_WEIGHTS_BYTES:
            self._session = session
        return session

    def _hold(self, samples: Samples) -> list[Sample]:
        session = self.session
        held: list[Sample] = []
        total = 0
        for feeds, rows in with_rows(self.reference, samples):
            answers = session.run(feeds)
            held.append(Sample(feeds, rows, answers))
            total += sum(a.nbytes for a in answers.values() if isinstance(a, np.ndarray))
            total += sum(a.nbytes for a in feeds.values())
            if total > _HELD_BYTES:
                break
        return held

    def first(self, count: int) -> Judge:
        """A judge by at most ``count`` of these samples."""
        few = copy(self)
        few.samples = self.samples[:count]
        return few

    def run(self, session: Session) -> list[dict[str, Array]]:
        """A model's answers to the held samples.

        Raises:
            ModelError: onnxruntime cannot run it.
        """
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


def evaluate(
    reference: Graph,
    sessions: Sequence[Session],
    samples: Samples,
    metric: NamedMetric | None,
    *,
    source: str,
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
        progress: Called with the samples done and asked.

    Raises:
        ModelError: onnxruntime cannot run one of them.
        DataError: The metric cannot be computed from the outputs and labels.
    """
    tallies = [Tally(reference.main.outputs) for _ in sessions[1:]]
    outputs: list[list[list[Array]]] = [[] for _ in sessions]
    own = reference.main.outputs
    measured = [own if {*own} <= {*session.outputs} else session.outputs for session in sessions]
    done = 0
    batch = largest_batch(sessions[0], samples, _BATCH)
    for feeds, rows in with_rows(reference, samples, batch):
        answers = [session.run(feeds) for session in sessions]
        for tally, answer in zip(tallies, answers[1:], strict=True):
            tally.add(answers[0], answer, rows)
        if metric is not None:
            for names, store, answer in zip(measured, outputs, answers, strict=True):
                store.append([rows.keep(answer[name]) for name in names])
        done += rows.real
        if progress is not None:
            progress(done, samples.count)
    qualities = [tally.quality(source) for tally in tallies]
    if metric is None or samples.labels is None:
        return qualities
    before, *after = (_measured(metric, store, samples.labels) for store in outputs)
    return [
        replace(quality, metric=Metric(metric[0], before, value))
        for quality, value in zip(qualities, after, strict=True)
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


def choose_judge(
    reference: Graph,
    offered: Sequence[tuple[Samples | None, str]],
    *,
    memory_limit: int | None,
    threads: int,
    seed: int,
) -> tuple[Judge | None, str]:
    """The judge, and a note on what it can and cannot prove; None where nothing can be run.

    Args:
        reference: The model that is right by definition.
        offered: Samples with their source, the best ones first; random feeds without any.
        memory_limit: Bytes that running the model may take; None for 3 GB or half of what is free.
        threads: Threads of the sessions.
        seed: Of random feeds.

    Raises:
        ModelError: onnxruntime cannot run the model on the samples given.
    """
    needed, allowed = _RUN_FACTOR * reference.weight_bytes, _run_bytes(memory_limit)
    if needed > allowed:
        return None, (
            f"not run: about {needed / 1e6:.3g} MB where {allowed / 1e6:.3g} MB are "
            "allowed; give a larger --memory-limit to have the result run and compared"
        )
    for samples, source in offered:
        if samples is not None:
            note = _TRAINED_ON if source == "train" else ""
            return Judge(reference, samples, source, threads=threads), note
    try:
        random = SyntheticSamples(reference, seed=seed)
        judge = Judge(reference, random, "random", threads=threads)
    except (DataError, ModelError) as err:
        return None, f"not run: random feeds do not fit this model ({err}); give --calib DATA"
    return judge, "measured on random feeds; give --calib or --eval DATA for figures that count"


def _run_bytes(memory_limit: int | None) -> int:
    """Bytes that running the model may take: the limit, else 3 GB or half of what is free."""
    if memory_limit is not None:
        return memory_limit
    return min(_DEFAULT_BYTES, int(psutil.virtual_memory().available) // 2)
