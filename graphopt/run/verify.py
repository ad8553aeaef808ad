"""A result against the reference: on the best samples that there are, and by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.data.first import FirstSamples
from graphopt.data.samples import Samples
from graphopt.facts.quantized import has_fixed_ranges
from graphopt.graph.graph import Graph
from graphopt.run.evaluation import evaluate
from graphopt.run.means import Means
from graphopt.run.quality import Quality
from graphopt.run.room import room_beside
from graphopt.run.stage import Stage
from graphopt.runtime.latency import Timed, joint
from graphopt.runtime.session import Session
from graphopt.runtime.side_by_side import side_by_side

__all__ = ["Verified", "judged", "verify"]

_TRAIN_SAMPLES = 1000
"""Samples to judge on of those that were trained on, where there are no others."""
_ROUNDS = 20
"""As many again where the clocks disagree: some seconds of the processor in all."""
_SETTLED = 0.03
"""Sessions of one graph differ by so much: a steadier ratio would be no better."""


@dataclass(frozen=True)
class Verified:
    """What a result was measured to be.

    Attributes:
        quality: Closeness to the reference.
        start: Closeness of the model as it came, where that is not the reference; else None.
        before: Latency of the reference.
        after: Latency of the result, with its ratio to the former: of two timings where the first
            one found it a little slower.
    """

    quality: Quality
    start: Quality | None
    before: Timed
    after: Timed


def verify(stage: Stage, means: Means, start: Stage | None = None) -> Verified:
    """Measure a result.

    Args:
        stage: The result.
        means: What to measure with; there is a judge.
        start: The model as it came, where that is not the reference.

    Raises:
        ModelError: onnxruntime cannot run the result.
        DataError: The metric cannot be computed.
    """
    assert means.judge is not None
    sessions = [means.judge.session, stage.session]  # for the answers and for the time
    quality, *before = judged([stage] if start is None else [stage, start], means)
    graphs = [means.reference, stage.graph]
    light = room_beside(graphs, stage.macs, means.machine.memory_limit)
    first, second = _timed(graphs, sessions, means, light=light)
    if second.ratio.doubtful and light:  # what lies elsewhere in memory may take another time
        others = [Session(graph, threads=means.threads) for graph in graphs]
        again = _timed(graphs, others, means, light=light)[1]
        second = second.at(joint(second.ratio, again.ratio))
    return Verified(quality, before[0] if before else None, first, second)


def _timed(
    graphs: Sequence[Graph], sessions: Sequence[Session], means: Means, *, light: bool
) -> list[Timed]:
    assert means.judge is not None
    feeds = means.judge.samples[0].feeds
    found, _ = side_by_side(
        graphs,
        sessions,
        [feeds, feeds],
        threads=means.threads,
        light=light,
        rounds=_ROUNDS,
        settled=_SETTLED,
    )
    return found


def judged(stages: Sequence[Stage], means: Means) -> list[Quality]:
    """Closeness of models to the reference, on the best samples that there are.

    Args:
        stages: The models.
        means: What to measure with; there is a judge.

    Raises:
        ModelError: onnxruntime cannot run one of them.
        DataError: The metric cannot be computed.
    """
    judge = means.judge
    assert judge is not None
    offered: list[tuple[Samples | None, str]] = [
        (means.evaluation, "eval"),
        (means.held_out, "held-out"),
        (means.calibration, "calib"),
    ]
    samples, source = next((pair for pair in offered if pair[0] is not None), (None, ""))
    if samples is None and judge.source == "train" and means.training is not None:
        samples, source = FirstSamples(means.training, _TRAIN_SAMPLES), "train"
    if samples is None:
        return [judge.compare(stage.answers) for stage in stages]
    return evaluate(
        means.reference,
        [judge.session, *(stage.session for stage in stages)],
        samples,
        means.metric,
        source=source,
        tasks=means.tasks,
        memory_limit=means.machine.memory_limit,
        clipped=[has_fixed_ranges(stage.graph) for stage in stages],
        progress=lambda done, of: means.tell("evaluate", done, of),
        recall=judge.recall,
    )
