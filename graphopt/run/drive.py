"""The one driver of a pass: preconditions, the edit, the verification, and what came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from graphopt.contract.kept import composed
from graphopt.contract.passes import Changes, Context, Pass
from graphopt.contract.patterns import skip_void
from graphopt.contract.preconditions import check_preconditions
from graphopt.contract.settings import Limits
from graphopt.contract.spec import parse_passes
from graphopt.data.first import FirstSamples
from graphopt.data.samples import bytes_of
from graphopt.errors import DataError, LimitError, ModelError, Need, PassError
from graphopt.facts.weighted_calls import weighted_calls
from graphopt.graph.graph import Graph
from graphopt.observe.request import Answers, Request
from graphopt.observe.walk import Walk
from graphopt.rewrite.half_weights import restore, widen
from graphopt.run.form_trials import StageTrials
from graphopt.run.limits import broken_exactness
from graphopt.run.means import Means
from graphopt.run.promises import destroyed
from graphopt.run.quality import Quality
from graphopt.run.record import Broken
from graphopt.run.stage import Stage
from graphopt.runtime.blas import one_blas_thread
from graphopt.runtime.pieces import ratio_of_times

__all__ = ["Depth", "Outcome", "Status", "drive", "form_maker"]

Depth = Literal["data", "check", "edit", "verify"]
"""How far a pass is driven: to what it asks of the data, to all that it asks, to its edit, or all
the way."""

_MADE_OF_SAMPLES = 4
"""Results of layers that are held beside the samples are about that many times as large."""
_NONSENSE_DB = -100.0

Status = Literal["planned", "done", "nothing to do", "refused", "rolled back"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What came of a pass.

    Attributes:
        stage: Where the model stands now: the stage given, unless the pass is ``done``.
        status: How it ended.
        reason: Why it is not ``done``, in words.
        changes: What the pass says that it did and left alone.
        needs: What was not given and would have kept it from being refused or ended.
        broken: The limit for which it was rolled back.
        quality: Closeness of the new stage to the reference; None where nothing was measured.
        seconds: Wall time.
        note: What it destroyed of what the passes before it had made; empty where nothing.
    """

    stage: Stage
    status: Status
    reason: str = ""
    changes: Changes = field(default_factory=Changes)
    needs: tuple[Need, ...] = ()
    broken: Broken | None = None
    quality: Quality | None = None
    seconds: float = 0.0
    note: str = ""


def drive(item: Pass, stage: Stage, means: Means, until: Depth = "verify") -> Outcome:
    """Run a pass on a copy of the stage's graph; where something does not hold, it is forgotten.

    Raises:
        PassError: Under ``strict``, a precondition does not hold.
        DataError: Under ``strict``, the samples cannot be used.
        ModelError: Under ``strict``, the model cannot be run.
        LimitError: Under ``strict``, the pass broke a limit, or a tensor that it observes is too
            large for the memory limit.
    """
    started = time.perf_counter()
    try:
        with one_blas_thread():
            outcome = _driven(item, stage, means, until)
    except (PassError, DataError, ModelError) as err:
        if means.limits.strict:
            raise
        outcome = Outcome(stage, "refused", str(err), needs=err.needs)
    except LimitError as err:  # a tensor to observe is too large for the memory limit
        if means.limits.strict:
            raise
        outcome = Outcome(stage, "rolled back", str(err), needs=err.needs)
    if outcome.broken is not None and means.limits.strict:
        raise LimitError(outcome.reason)
    told = f"{outcome.status}: {outcome.reason}" if outcome.reason else outcome.status
    logger.info("%s: %s", item.name, told)
    return replace(outcome, seconds=time.perf_counter() - started)


def form_maker(stage: Stage, means: Means) -> Callable[[str], Graph | str]:
    """What passes make of a model where only their edits count, or why they make nothing.

    Args:
        stage: Where the model stands.
        means: What to measure with; its limits do not count.
    """
    without = replace(means, limits=Limits())

    def make(spec: str) -> Graph | str:
        made, reason = stage, ""
        for item in parse_passes(spec):
            outcome = drive(item, made, without, until="edit")
            if outcome.status in ("refused", "rolled back"):
                return outcome.reason
            made = outcome.stage
            if item.lossy and outcome.status == "nothing to do":
                reason = outcome.reason
        return reason or made.graph

    return make


def _driven(item: Pass, stage: Stage, means: Means, until: Depth) -> Outcome:
    context = _context(stage, means, timed=until == "verify")
    check_preconditions(item, stage.graph, context, of_model=until != "data")
    if until in ("data", "check"):
        return Outcome(stage, "planned")
    graph = stage.graph.copy()
    halves = widen(graph) if _sees_float32(item) else []
    try:
        changes = item.run(graph, context)
    except SystemExit as err:  # a pass from elsewhere; the process is not its to end
        raise PassError(f"{item.name} tried to end the process (exit {err.code})") from err
    skip_void(item, stage.graph, changes)
    for node in weighted_calls(stage.graph) if item.lossy and not item.joins else ():
        changes.skip(node, "its function holds weights, which only inline-functions brings out")
    if changes.missed is not None and means.limits.strict and until == "verify":
        raise LimitError(f"{item.name}: {changes.missed}")
    if not changes:
        return Outcome(stage, "nothing to do", changes.nothing, changes)
    restore(graph, halves, rounded=item.rounds_halves)
    origin = stage.float_stage if item.lossy else stage.origin
    rounded_from = stage.unrounded_stage if item.quantizes else stage.rounded_from
    after = Stage(graph, means, origin, composed(stage.kept, changes.kept), rounded_from)
    if until == "edit":
        return Outcome(after, "done", changes=changes)
    if item.lossy and not item.must_help:
        stage.rest()  # nothing is held against its answers
    broken = _broken(item, stage, after, means)
    if broken is not None:
        return Outcome(stage, "rolled back", str(broken), changes, broken=broken)
    quality = None if means.judge is None else means.judge.compare(after.answers)
    note = ""
    if item.lossy:
        first = stage.float_stage.promises
        note = destroyed(item.name, first, stage.promises, after.promises)
    return Outcome(after, "done", changes=changes, quality=quality, note=note)


def _sees_float32(item: Pass) -> bool:
    """Whether a pass is handed half floats behind a Cast as the float32 that they become."""
    return (item.lossy or item.widens_halves) and not item.as_stored


def _context(stage: Stage, means: Means, *, timed: bool) -> Context:
    """What a pass gets to see.

    Args:
        stage: Where the model stands.
        means: What the run measures with.
        timed: Whether the pass may time forms of layers; else all count as faster.
    """

    def observe(
        requests: Iterable[Request[Any]], graph: Graph | None = None, limit: int | None = None
    ) -> Answers:
        known = (each for each in (stage.float_stage, stage.unrounded_stage) if each.graph is graph)
        state = stage if graph is None else next(known, None) or Stage(graph, means)
        return state.observer.ask(requests, limit)

    def walk(graph: Graph, limit: int) -> Walk:
        if means.calibration is None:
            raise PassError("it needs calibration samples", Need.CALIBRATION)
        most = means.memory(4)
        if most is not None:  # the samples are held, and what layers make of them
            each = max(1, bytes_of(means.calibration) // max(1, means.calibration.count))
            limit = max(1, min(limit, most // (_MADE_OF_SAMPLES * each)))
        samples = FirstSamples(means.calibration, limit)
        return Walk(graph, samples, means.threads, means.batch, most, means.deadline)

    def time_ratio(base: Graph, other: Graph) -> float:
        return ratio_of_times(base, other, means.threads) if timed else 0.0

    return Context(
        target=means.target,
        shapes=stage.shapes,
        calibrated=means.calibration is not None,
        observe=observe,
        walk=walk,
        time_ratio=time_ratio,
        rng=np.random.default_rng(means.seed),
        reference=stage.float_stage.graph,
        unrounded=stage.unrounded_stage.graph,
        training=means.lessons(),
        kept=stage.kept,
        findings=stage.findings,
        trials=None
        if means.judge is None
        else StageTrials(stage, means, means.judge, form_maker(stage, means)),
    )


def _broken(item: Pass, before: Stage, after: Stage, means: Means) -> Broken | None:
    """What the edited graph breaks: validity, that it runs, closeness to what it was."""
    new = [problem for problem in after.problems if problem not in before.problems]
    if new:
        return Broken("valid", detail=new[0])
    judge = means.judge
    if judge is None:
        return None
    try:
        answers = after.answers
    except ModelError as err:
        return Broken("runs", detail=str(err))
    quality = judge.compare(answers)
    now = quality.worst_db
    for output, fault in quality.faults.items():
        return Broken("finite", detail=f"output {output!r}, {fault}")
    if now is not None and now < _NONSENSE_DB:
        names = [name for name, value in quality.decides_db.items() if value == now]
        return Broken("finite", detail=f"output {names[0]!r} is nothing like that before")
    if item.must_help and before.graph is not means.reference:
        earlier = judge.compare(before.answers).worst_db
        if earlier is not None and now is not None and now <= earlier:
            return Broken("helps", asked=earlier, measured=now)
    if not item.lossy:
        closeness = judge.compare(answers, before.answers)
        return broken_exactness(closeness, means)
    return None
