"""Runs passes: snapshot, run, check, measure, keep or roll back, record."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import onnx

from graphopt.contract.passes import Changes, Pass
from graphopt.contract.preconditions import check_preconditions
from graphopt.contract.spec import format_passes
from graphopt.errors import DataError, LimitError, ModelError, PassError
from graphopt.facts import cost
from graphopt.graph import check, snapshot
from graphopt.graph.graph import Graph
from graphopt.run.job import Job
from graphopt.run.record import PassRecord, Quality

__all__ = ["LOSSLESS_DB", "apply", "dry_run", "run_passes"]

_NONSENSE_DB = -100.0
LOSSLESS_DB = 90.0
"""Float32 rounding through a deep network stays above this SQNR."""
_HALF_DB: dict[int, float] = {onnx.TensorProto.FLOAT16: 45.0, onnx.TensorProto.BFLOAT16: 25.0}
"""The same for models with weights of 11 and of 8 bits: each rounding costs 68 and 50 dB."""

logger = logging.getLogger(__name__)


def run_passes(job: Job, passes: Sequence[Pass]) -> list[PassRecord]:
    """Apply passes in order.

    Raises:
        PassError: Under ``strict``, a precondition does not hold.
        LimitError: Under ``strict``, a pass broke a limit.
    """
    records: list[PassRecord] = []
    for group in _groups(passes):
        taken, first = snapshot.take(job.graph), len(records)
        float_graph, answers = job.float_graph, job.answers
        for item in group:
            if job.progress is not None:
                job.progress(item.name, len(records), len(passes))
            records.append(apply(job, item))
        try:
            _hold_limits(job, group, records[first:])
        except LimitError as err:
            if job.strict:
                raise
            snapshot.restore(job.graph, taken)
            job.float_graph, job.answers = float_graph, answers
            job.forget()
            records[first:] = [_taken_back(job, record, str(err)) for record in records[first:]]
    return records


def _groups(passes: Sequence[Pass]) -> list[list[Pass]]:
    """Each pass with those that join it: only together do they have to keep the limits."""
    groups: list[list[Pass]] = []
    for item in passes:
        if item.joins and groups:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _taken_back(job: Job, record: PassRecord, reason: str) -> PassRecord:
    """The record of a pass whose effect is gone with that of its group."""
    if record.status != "done":
        return record
    return replace(
        record,
        status="rolled back",
        reason=reason,
        changes=[],
        bytes=job.graph.weight_bytes,
        macs=cost.total_macs(job.graph, job.shapes()),
    )


def apply(job: Job, item: Pass) -> PassRecord:
    """Apply one pass to the job's graph, or leave the graph as it was and say why."""
    started = time.perf_counter()
    taken = snapshot.take(job.graph)
    before = check.problems(job.graph)
    status, reason, changes, quality = "done", "", Changes(), None
    float_graph = job.float_graph
    if item.lossy and float_graph is None:
        job.float_observer = job.as_handed_over()
        job.float_graph = job.float_observer.graph
    try:
        changes = _edit(job, item)
        if not changes:
            status, reason = "nothing to do", changes.nothing
        else:
            quality = _verify(job, item, before)
    except (PassError, DataError, ModelError) as err:
        if job.strict:
            raise
        status, reason = "refused", str(err)
    except LimitError as err:
        if job.strict:
            raise
        status, reason = "rolled back", str(err)
    if status != "done":
        snapshot.restore(job.graph, taken)
        job.float_graph = float_graph
    else:
        job.forget()
    logger.info("%s: %s", item.name, f"{status}: {reason}" if reason else status)
    return PassRecord(
        name=item.name,
        spec=format_passes([item]),
        status=status,
        reason=reason,
        seconds=time.perf_counter() - started,
        changes=changes.edits if status == "done" else [],
        skipped=changes.skips,
        bytes=job.graph.weight_bytes,
        macs=cost.total_macs(job.graph, job.shapes()),
        sqnr_db=None if quality is None else quality.worst_db,
        curves=changes.curves,
    )


def _edit(job: Job, item: Pass) -> Changes:
    """Preconditions, then the pass itself."""
    check_preconditions(item, job.graph, job.context())
    return item.run(job.graph, job.context())


def _verify(job: Job, item: Pass, before: Sequence[str]) -> Quality | None:
    """The edited graph is valid, runs, and is close enough to what it was.

    Raises:
        LimitError: It is not; the message says by how much.
    """
    new = [problem for problem in check.problems(job.graph) if problem not in before]
    if new:
        raise LimitError(f"left an invalid model, rolled back: {new[0]}")
    if job.probe is None:
        return None
    try:
        answers = job.probe.run(job.graph)
    except ModelError as err:
        raise LimitError(f"onnxruntime refuses the result, rolled back: {err}") from err
    quality = job.probe.compare(answers)
    if quality.worst_db is not None and quality.worst_db < _NONSENSE_DB:
        raise LimitError("its answers are infinite, not numbers, or of another shape")
    if item.must_help:
        _must_help(job, quality)
    if not item.lossy:
        floor = _lossless_floor(job.reference)
        _hold_floor(job.probe.compare(answers, job.answers), floor, "lossless")
    job.answers = answers
    return quality


def _lossless_floor(graph: Graph) -> float:
    """What rounding alone may cost in a model of this precision, dB."""
    kinds = {tensor.data_type for s in graph.scopes() for tensor in s.initializers.values()}
    return min((_HALF_DB[kind] for kind in kinds if kind in _HALF_DB), default=LOSSLESS_DB)


def _hold_floor(quality: Quality, floor: float | None, name: str) -> None:
    """Refuse an output whose SQNR is below the floor."""
    if floor is None:
        return
    for output, value in quality.sqnr_db.items():
        if value is not None and value < floor:
            raise LimitError(f"{name} asks {floor:g} dB, output {output!r} is at {value:.1f} dB")


def _must_help(job: Job, quality: Quality) -> None:
    """Refuse a repair after which the worst output is no closer than it was."""
    if job.probe is None or job.answers is None:
        return
    before, now = job.probe.compare(job.answers).worst_db, quality.worst_db
    if before is not None and now is not None and now <= before:
        raise LimitError(f"it does not help: {now:.1f} dB, {before:.1f} dB without it")


def _hold_limits(job: Job, group: Sequence[Pass], records: Sequence[PassRecord]) -> None:
    """Refuse what a lossy pass and those that join it left, if it breaks a limit of the user."""
    lossy = [
        item.lossy and record.status == "done" for item, record in zip(group, records, strict=True)
    ]
    if not any(lossy) or job.probe is None or job.answers is None:
        return
    _hold_floor(job.probe.compare(job.answers), job.min_sqnr_db, "min-sqnr")
    if job.drop is None or job.max_drop is None:
        return
    drop = job.drop(job.graph)
    if drop > job.max_drop:
        raise LimitError(f"max-drop allows {job.max_drop:g}, the metric falls by {drop:.3g}")


def dry_run(job: Job, passes: Sequence[Pass]) -> list[PassRecord]:
    """What each pass would meet: preconditions only, nothing is edited or run.

    Those of the first pass are checked on the model. What the others will find is up to the
    passes before them; of these only what they ask of the data is looked at.
    """
    records = []
    for index, item in enumerate(passes):
        status, reason = "planned", ""
        try:
            check_preconditions(item, job.graph, job.context(), of_model=index == 0)
        except (PassError, DataError) as err:
            status, reason = "refused", str(err)
        spec = format_passes([item])
        size = job.graph.weight_bytes
        records.append(PassRecord(item.name, spec, status, reason, 0.0, [], [], size, None, None))
    return records
