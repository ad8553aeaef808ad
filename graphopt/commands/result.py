"""The steps that every command with a result takes: what it measures with, and the result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from graphopt import targets
from graphopt.commands.reads import STARTS
from graphopt.commands.settings import plan_text
from graphopt.commands.sources import Data
from graphopt.contract.recipe import Recipe, format_recipe
from graphopt.contract.settings import Limits, Machine
from graphopt.data import open_data
from graphopt.data.feeds import told_of
from graphopt.data.held_back import held_back
from graphopt.data.samples import Samples
from graphopt.data.source import Source
from graphopt.errors import Need
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.ports import fixed_batch
from graphopt.run import environment
from graphopt.run.files import FileRead, Read, Written, refuse_overlaps
from graphopt.run.judge import choose_judge
from graphopt.run.limits import check_limits
from graphopt.run.means import Means
from graphopt.run.metrics import MetricFunction, find_metric
from graphopt.run.proof import Proof, describe, prove, with_recipe
from graphopt.run.record import Caveat, ModelRecord, PassRecord, RunRecord, StartRecord
from graphopt.run.stage import Stage
from graphopt.runtime import launch
from graphopt.runtime.session import thread_count
from graphopt.runtime.trial import Trial
from graphopt.search.planner import Choice

__all__ = ["Origin", "Result", "finished", "looked_at", "means_of", "with_judge"]


@dataclass(frozen=True)
class Result:
    """What ``optimize`` hands back.

    Attributes:
        graph: The optimized model.
        report: What was done and measured.
        reads: The files that the run read.
    """

    graph: Graph
    report: RunRecord
    reads: tuple[Read, ...] = field(default=(), repr=False)

    @property
    def model(self) -> onnx.ModelProto:
        """The optimized model as a message; very large weights stay external references."""
        return self.graph.to_model()

    @property
    def limits_met(self) -> bool:
        """Whether every limit that was asked for is met."""
        return all(limit.met for limit in self.report.limits)

    def save(self, path: str | Path) -> Result:
        """Write the model, whole or not at all; of several processes only the leading one does.

        Of the files that the run read, the one of the model that it started from may be
        written over, and no other.

        Returns:
            The same result with a report that tells of the file.

        Raises:
            UsageError: ``path`` is another file that the run read.
            SystemFailure: Disk full, no permission, no such folder.
        """
        if not launch.leads():
            return self
        others = [read for read in self.reads if read.role not in STARTS]
        refuse_overlaps(others, [Written("the output", Path(path))])
        keep = [file for read in self.reads if type(read) is FileRead for file in read.files()]
        size, output = io.save(self.graph, Path(path), keep), self.report.output
        if output is None:
            output = describe(self.graph)
        output = replace(output, path=str(path), sha256=io.sha256(Path(path)), bytes=size)
        return replace(self, report=replace(self.report, output=output))


@dataclass(frozen=True)
class Origin:
    """A model that a run starts from or measures against, and its file."""

    stage: Stage
    path: Path | None

    def described(self) -> ModelRecord:
        """The model in figures."""
        return describe(self.stage.graph, self.path, macs=self.stage.macs)


def means_of(
    plan: Recipe,
    data: Data,
    limits: Limits,
    machine: Machine,
    *,
    reference: Graph,
    teacher: Graph,
    student: Graph,
    **rest: Any,
) -> Means:
    """What to measure with, the judge not chosen yet.

    Without evaluation samples some of the calibration samples are held back to judge by.

    Args:
        plan: Its target, limits, seed and preprocessing count.
        data: Where samples come from.
        limits: ``strict`` counts.
        machine: All but target and seed counts.
        reference: What results are measured against.
        teacher: What training aims at.
        student: What passes edit; samples must fit it and the teacher.
        rest: Further fields of ``Means``.

    Raises:
        DataError: Samples do not fit the inputs.
        UsageError: No target has that name.
    """
    feeder = teacher if fixed_batch(teacher) else student

    def samples(source: Source | None) -> Samples | None:
        if source is None:
            return None
        return open_data(source, feeder, plan.images, machine.memory_limit)

    calibration, evaluation = samples(data.calibration), samples(data.evaluation)
    parts = None
    if calibration is not None and evaluation is None:
        parts = held_back(calibration, plan.seed or 0)
    observed, held_out = parts or (calibration, None)
    return Means(
        reference=reference,
        target=targets.find(plan.target),
        machine=replace(machine, seed=plan.seed),
        limits=replace(limits, min_sqnr_db=plan.min_sqnr_db, max_drop=plan.max_drop),
        calibration=observed,
        evaluation=evaluation,
        held_out=held_out,
        training=samples(data.training),
        teacher=teacher,
        **rest,
    )


def with_judge(
    means: Means,
    metric: str | MetricFunction | None,
    trial: Trial,
    others: Sequence[Graph] = (),
) -> tuple[Means, Caveat]:
    """The means with a judge and the metric, and what the judge cannot prove.

    Calibration samples come first, held back from the passes or not: what is chosen by them leaves
    the evaluation untouched.

    Args:
        means: Without a judge.
        metric: Its name, or a function of outputs and labels.
        trial: Loads and runs models from outside before this process does.
        others: Further models from outside, beside the reference.

    Raises:
        DataError: A metric is asked for and there are no labels.
        LimitError: A drop is limited and there is nothing to measure it with.
        ModelError: onnxruntime cannot run the model on the data given.
        UsageError: No metric has that name.
    """
    offered = [
        (means.held_out, "held-out"),
        (means.calibration, "calib"),
        (means.evaluation, "eval"),
        (means.training, "train"),
    ]
    judge, caveat = choose_judge(
        means.reference,
        offered,
        trial=trial,
        memory_limit=means.machine.memory_limit,
        threads=means.threads,
        seed=means.seed,
    )
    for graph in others if judge is not None else ():
        assert judge is not None
        feeds = judge.samples[0].feeds
        trial.run(graph, feeds, threads=thread_count(means.threads))
    if judge is not None and not caveat.note:
        caveat = _caveat(means)
    means = replace(means, judge=judge, metric=find_metric(metric, means.evaluation))
    check_limits(means)
    return means, caveat


def _caveat(means: Means) -> Caveat:
    """What the reader should know where calibration samples judge the result."""
    if means.evaluation is not None or means.calibration is None:
        return Caveat()
    observed = means.calibration.count
    if means.held_out is None:
        note = (
            f"measured on the {observed} samples that the passes observed, of which none could be "
            "held back; figures that count need others"
        )
    else:
        held = means.held_out.count
        note = (
            f"{held} of the {held + observed} calibration samples were held back to judge by; "
            "with others to judge by, the passes observe all"
        )
    return Caveat(note, (Need.EVALUATION,))


def looked_at(
    plan: Recipe,
    origin: Origin,
    means: Means,
    passes: Sequence[PassRecord],
    messages: Sequence[str],
) -> Result:
    """The result of a dry run."""
    record = RunRecord(
        command=plan_text(plan),
        environment=environment.describe(means.target, means.threads),
        input=origin.described(),
        passes=list(passes),
        messages=[
            *messages,
            *told_of(means.calibration, means.training, means.evaluation),
        ],
        dry_run=True,
    )
    return Result(origin.stage.graph, record)


def finished(
    plan: Recipe,
    choice: Choice,
    means: Means,
    caveat: Caveat,
    *,
    started: float,
    reference: Origin,
    start: Origin | None = None,
) -> Result:
    """Prove what came out of the passes and put the report together.

    Args:
        plan: What was asked.
        choice: What came out.
        means: What to measure with.
        caveat: What the judge cannot prove.
        started: When the command began, by ``time.perf_counter``.
        reference: What the result is measured against.
        start: The model as it came, where it is not the reference.

    Raises:
        DataError: The metric cannot be computed.
        ModelError: onnxruntime cannot run the result.
    """
    done = tuple(choice.passes)
    text = format_recipe(replace(plan, auto=False, passes=done))
    proof, output = Proof(), None
    before = reference.described()
    if launch.leads():  # the clock of the one process should not hear the others
        first = None if start is None else start.stage
        proof = prove(choice.stage, means, first, choice.records, caveat)
        macs = choice.stage.macs
        output = describe(choice.stage.graph, macs=macs, latency_ms=proof.after_ms)
        before = replace(before, latency_ms=proof.before_ms)
    origin = None
    if start is not None:
        origin = StartRecord(start.described(), proof.start)
    record = RunRecord(
        command=plan_text(plan),
        environment=environment.describe(means.target, means.threads),
        input=before,
        output=output,
        quality=proof.quality,
        passes=choice.records,
        candidates=choice.candidates,
        audit=proof.audit,
        layers=proof.layers,
        limits=proof.limits,
        messages=[
            *choice.messages,
            *proof.messages,
            *_losses(before, output, proof, start),
            *told_of(means.calibration, means.training, means.evaluation),
        ],
        recipe=text,
        latency_ratio=None if proof.ratio is None else proof.ratio.median,
        latency_spread=None if proof.ratio is None else proof.ratio.spread,
        start=origin,
        peak_rss_bytes=environment.peak_rss_bytes(),
        seconds=time.perf_counter() - started,
    )
    return Result(with_recipe(choice.stage.graph, text) if done else choice.stage.graph, record)


def _losses(
    before: ModelRecord, after: ModelRecord | None, proof: Proof, start: object | None
) -> list[str]:
    """What got worse in bytes or in time, so that nothing gets worse unsaid."""
    losses = list[str]()
    other = "the input" if start is None else "its teacher"
    if after is not None and after.bytes > before.bytes:
        sizes = f"{after.bytes} bytes against {before.bytes}"
        losses.append(f"the result is larger than {other}: {sizes}")
    if proof.ratio is not None and proof.ratio.median > 1 + proof.ratio.spread:
        slower = f"{proof.ratio.median:.2f}x the time"
        losses.append(f"the result is slower than {other} on this machine: {slower}")
    return losses
