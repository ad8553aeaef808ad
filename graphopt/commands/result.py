"""The result of a command, and how it is put together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from graphopt.commands.mobile import is_mobile, save_mobile
from graphopt.commands.reads import STARTS
from graphopt.commands.settings import plan_text
from graphopt.contract.recipe import Recipe, format_recipe
from graphopt.data.feeds import told_of
from graphopt.data.samples import Feeds
from graphopt.graph import io
from graphopt.graph.constant import constants_of
from graphopt.graph.graph import Graph
from graphopt.run import environment
from graphopt.run.files import FileRead, Read, Written, refuse_overlaps
from graphopt.run.guessing import guesses
from graphopt.run.limits import LOSSLESS_DB, lossless_floor
from graphopt.run.means import Means
from graphopt.run.proof import Proof, describe, prove, with_recipe
from graphopt.run.quality import Caveat
from graphopt.run.record import ModelRecord, PassRecord, RunRecord, StartRecord
from graphopt.run.stage import Stage
from graphopt.runtime import launch
from graphopt.search.choice import Choice

__all__ = ["Origin", "Result", "finished", "looked_at"]


@dataclass(frozen=True)
class Result:
    """What ``optimize`` hands back.

    Attributes:
        graph: The optimized model.
        report: What was done and measured.
        reads: The files that the run read.
        feeds: One feed that the models were run on; None where they were not.
    """

    graph: Graph
    report: RunRecord
    reads: tuple[Read, ...] = field(default=(), repr=False)
    feeds: Feeds | None = field(default=None, repr=False)

    @property
    def model(self) -> onnx.ModelProto:
        """The optimized model as a message; very large weights stay external references."""
        return self.graph.to_model()

    @property
    def limits_met(self) -> bool:
        """Whether every limit that was asked for is met."""
        return all(limit.met for limit in self.report.limits)

    @property
    def refused(self) -> list[PassRecord]:
        """The passes that the user named and that were refused, or taken back for no limit of his.

        A repair that does not help is none of them, and nothing that ``auto`` chose is.
        """
        if self.report.dry_run or self.report.candidates:
            return []
        return [item for item in self.report.passes if _refused(item)]

    def saying(self, messages: Sequence[str]) -> Result:
        """The same with a report that says more."""
        said = [*self.report.messages, *messages]
        return replace(self, report=replace(self.report, messages=said))

    def save(self, path: str | Path) -> Result:
        """Write the model, whole or not at all; of several processes only the leading one does.

        A name that ends in ``.ort`` asks for onnxruntime's mobile format.

        Of the files that the run read, the one of the model that it started from may be
        written over, and no other.

        Returns:
            The same result with a report that tells of the file.

        Raises:
            UsageError: ``path`` is another file that the run read.
            SystemFailure: Disk full, no permission, no such folder.
            ModelError: onnxruntime cannot save the model in its mobile format.
            LimitError: It is too large for that.
        """
        if not launch.leads():
            return self
        others = [read for read in self.reads if read.role not in STARTS]
        refuse_overlaps(others, [Written("the output", Path(path))])
        place, notes = Path(path), list[str]()
        if is_mobile(place):
            size, notes = save_mobile(self.graph, place, self.feeds)
        else:
            keep = [file for read in self.reads if type(read) is FileRead for file in read.files()]
            size = io.save(self.graph, place, keep)
        output = self.report.output
        if output is None:
            output = describe(self.graph)
        output = replace(output, path=str(place), sha256=io.sha256(place), bytes=size)
        return replace(self, report=replace(self.report, output=output)).saying(notes)


def _refused(item: PassRecord) -> bool:
    """Whether a pass had no effect although it was wanted."""
    if item.broken is not None:
        return item.broken.limit in ("valid", "runs", "finite", "lossless")
    return item.status == "refused"


@dataclass(frozen=True)
class Origin:
    """A model that a run starts from or measures against, and its file."""

    stage: Stage
    path: Path | None

    def described(self) -> ModelRecord:
        """The model in figures."""
        return describe(self.stage.graph, self.path, sizes=self.stage.sizes)


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
        proof = prove(choice.stage, means, first, choice.records, caveat, choice.verified)
        sizes = choice.stage.sizes
        output = describe(choice.stage.graph, sizes=sizes, latency_ms=proof.after_ms)
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
            *(record.note for record in choice.records if record.note),
            *proof.messages,
            *means.label_notes,
            *filter(None, [_guessed(proof, means), _stood_in(choice.stage, means)]),
            *_losses(before, output, proof, start),
            *filter(None, [_unreadable(choice.stage.graph)]),
            *told_of(means.calibration, means.training, means.evaluation),
        ],
        recipe=text,
        latency_ratio=None if proof.ratio is None else proof.ratio.median,
        latency_spread=None if proof.ratio is None else proof.ratio.spread,
        latency_clock=None if proof.ratio is None else proof.ratio.clock,
        start=origin,
        tasks=list(means.tasks.values()),
        peak_rss_bytes=environment.peak_rss_bytes(),
        seconds=time.perf_counter() - started,
    )
    graph = with_recipe(choice.stage.graph, text) if done else choice.stage.graph
    feeds = None if means.judge is None else means.judge.samples[0].feeds
    return Result(graph, record, feeds=feeds)


def _stood_in(stage: Stage, means: Means) -> str:
    """What is to be told where a result of half floats could not be run as it is."""
    halves = lossless_floor(stage.graph) < LOSSLESS_DB
    if means.judge is None or means.judge.stands_in_for or not halves or not launch.leads():
        return ""
    cause = stage.session.stands_in_for
    return cause and (
        "the result was measured in float32, with its weights as they are stored and nothing "
        f"rounded between: {cause}"
    )


def _guessed(proof: Proof, means: Means) -> str:
    """What is to be told where the labels make the model as it came no better than a guess."""
    if means.evaluation is None or proof.quality is None:
        return ""
    return guesses(proof.quality.metric, means.evaluation.labels)


def _unreadable(graph: Graph) -> str:
    """What is to be told of weights that are stored sparse."""
    constants = (each for scope in graph.scopes() for each in constants_of(scope))
    count = sum(each.sparse is not None for each in constants)
    if not count:
        return ""
    stored = "1 weight is stored sparse" if count == 1 else f"{count} weights are stored sparse"
    return f"{stored}, which most runtimes but onnxruntime refuse; densify stores them dense"


def _losses(
    before: ModelRecord, after: ModelRecord | None, proof: Proof, start: object | None
) -> list[str]:
    """What got worse in bytes or in time, so that nothing gets worse unsaid."""
    losses = list[str]()
    other = "the input" if start is None else "its teacher"
    if after is not None and after.bytes > before.bytes:
        sizes = f"{after.bytes} bytes against {before.bytes}"
        losses.append(f"the result is larger than {other}: {sizes}")
    if proof.ratio is not None and proof.ratio.slower:
        slower = f"{proof.ratio.median:.2f}x the time"
        losses.append(f"the result is slower than {other} on this machine: {slower}")
    return losses
