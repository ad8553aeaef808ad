"""How close models are to the one that is right, over samples: SQNR, agreement, the metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, zip_longest

from graphopt.data.alike import alike
from graphopt.data.samples import Feeds, Samples
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.observe.request import Rows
from graphopt.observe.run import with_rows
from graphopt.run.measuring import BATCH, feed_size, metric_answers
from graphopt.run.metrics import TaskMetric
from graphopt.run.perplexity import Perplexity
from graphopt.run.quality import Quality
from graphopt.run.recall import Recall
from graphopt.run.rolling import STEPS, roll, rollouts
from graphopt.run.sizing import joined_samples
from graphopt.run.tally import Tally
from graphopt.runtime.batches import largest_batch
from graphopt.runtime.session import Session
from graphopt.tasks.task import Task

__all__ = ["answered", "evaluate"]

_OTHERS = ("eval", "held-out")
"""Sources that no pass has looked at; fresh samples do no better than others."""


def answered(
    graph: Graph,
    sessions: Sequence[Session],
    samples: Samples,
    progress: Callable[[int, int], None] | None = None,
    batch: int = BATCH,
    recall: Recall | None = None,
) -> Iterator[tuple[Feeds, list[dict[str, Array]], Rows]]:
    """One feed after another, the answers of all models to it, and what of them counts.

    Args:
        graph: Of the model whose inputs say which batch all get.
        sessions: Of the models; the first one says how many samples it takes at once.
        samples: All of them are run.
        progress: Called with the samples done and asked.
        batch: Samples that a feed may join.
        recall: What the first model answered when it was run before.

    Raises:
        ModelError: onnxruntime cannot run one of them.
    """
    done, batch = 0, largest_batch(sessions[0], samples, batch)
    for number, (feeds, rows) in enumerate(with_rows(graph, samples, batch)):
        first, *others = sessions
        if recall is None:
            own = first.run(feeds)
        else:
            own = recall.answer(first, samples, batch, number, feeds)
        yield feeds, [own, *(session.run(feeds) for session in others)], rows
        done += rows.real
        if progress is not None:
            progress(done, samples.count)


def evaluate(
    reference: Graph,
    sessions: Sequence[Session],
    samples: Samples,
    metric: TaskMetric | None,
    *,
    source: str,
    tasks: Mapping[str, Task] | None = None,
    memory_limit: int | None = None,
    clipped: Sequence[bool] = (),
    progress: Callable[[int, int], None] | None = None,
    recall: Recall | None = None,
) -> list[Quality]:
    """Models against the first one over all samples: each output by its kind, and the metric.

    Args:
        reference: The graph of the first session.
        sessions: Of the models, each with its own outputs. The metric gets those of the
            reference, in its order, or where one of these is missing the model's own.
        samples: All of them are run.
        metric: What to measure with the labels of ``samples``; without it the perplexity of a
            language model.
        source: Where the samples are from, for the record.
        tasks: What each output means; what is not told is read from the answers.
        memory_limit: Bytes that the answers may take which are held for the metric; feeds join
            fewer samples by it.
        clipped: Which of the models behind the first have fixed ranges.
        progress: Called with the samples done and asked.
        recall: What the first model answered when it was run before.

    Raises:
        ModelError: onnxruntime cannot run one of them.
        DataError: The metric cannot be computed from the outputs and labels.
    """
    same = alike(samples)
    tallies = [
        Tally(
            reference.main.outputs,
            tasks,
            telling=source != "random",
            alike=same,
            clipped=fixed,
        )
        for _, fixed in zip_longest(sessions[1:], clipped, fillvalue=False)
    ]
    own = reference.main.outputs
    measured = [own if {*own} <= {*session.outputs} else session.outputs for session in sessions]
    held = None
    if metric is not None and samples.labels is not None:
        held = metric_answers(metric, measured, samples.labels, memory_limit)
    batch = feed_size(tasks or {}, held)
    batch = joined_samples(reference, samples, batch, memory_limit)
    texts = Perplexity(tasks or {}, len(sessions)) if metric is None else None
    for feeds, answers, rows in answered(reference, sessions, samples, progress, batch, recall):
        for tally, answer in zip(tallies, answers[1:], strict=True):
            tally.add(answers[0], answer, rows)
        if held is not None:
            for number, answer in enumerate(answers):
                held.add(number, answer, rows)
        if texts is not None:
            texts.add(feeds, answers, rows.real)
    _add_steps(sessions, tallies, tasks or {}, islice(with_rows(reference, samples), STEPS))
    others = source in _OTHERS
    qualities = [tally.quality(source, tally.fresh() if others else None) for tally in tallies]
    measured_by = held or texts
    if measured_by is None:
        return qualities
    return [
        replace(quality, metric=value)
        for quality, value in zip(qualities, measured_by.values(), strict=True)
    ]


def _add_steps(
    sessions: Sequence[Session],
    tallies: Sequence[Tally],
    tasks: Mapping[str, Task],
    samples: Iterator[tuple[Feeds, Rows]],
) -> None:
    """Count what comes of feeding states back, each model its own."""
    if not any(task.fed_to for task in tasks.values()):
        return
    feeds, rows = zip(*samples, strict=True)
    for rollout in rollouts(sessions[0], tasks, feeds, rows):
        for session, tally in zip(sessions[1:], tallies, strict=True):
            tally.add_steps(rollout.rows, rollout.answers, roll(session, rollout))
