"""Passes one after another: those that belong together keep the limits together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphopt.contract.passes import Pass
from graphopt.contract.spec import format_passes
from graphopt.contract.taken import Taken
from graphopt.errors import LimitError
from graphopt.run.drive import Outcome, drive
from graphopt.run.limits import broken_by_user
from graphopt.run.means import Means
from graphopt.run.record import Broken, PassRecord
from graphopt.run.stage import Stage

__all__ = ["Driven", "done_passes", "dry_run", "record_of", "run_passes", "taken_back"]


@dataclass(frozen=True)
class Driven:
    """Passes that keep the limits together, as they were driven.

    Attributes:
        before: Where the model stood before them.
        first: Index of the record of the first of them.
        lossy: Whether one of them is.
    """

    before: Stage
    first: int
    lossy: bool


def run_passes(
    stage: Stage, means: Means, passes: Sequence[Pass], trail: list[Driven] | None = None
) -> tuple[Stage, list[PassRecord]]:
    """Drive passes in order.

    Args:
        stage: Where the model stands.
        means: What to measure with.
        passes: In order.
        trail: Gets a step for each group of passes.

    Returns:
        Where the model stands afterwards, and a record for each pass.

    Raises:
        PassError: Under ``strict``, a precondition does not hold.
        LimitError: Under ``strict``, a pass broke a limit.
    """
    records: list[PassRecord] = []
    for group in _groups(passes):
        if trail is not None:
            trail.append(Driven(stage, len(records), any(item.lossy for item in group)))
        outcomes: list[Outcome] = []
        ahead = stage
        for item in group:
            means.tell(item.name, len(records) + len(outcomes), len(passes))
            outcomes.append(drive(item, ahead, means))
            ahead = outcomes[-1].stage
        broken = _broken(group, outcomes, means)
        if broken is not None and means.limits.strict:
            raise LimitError(str(broken))
        for item, outcome in zip(group, outcomes, strict=True):
            kept = outcome if broken is None else _taken_back(outcome, stage, broken)
            records.append(record_of(item, kept))
        stage = ahead if broken is None else stage
    return stage, records


def done_passes(passes: Sequence[Pass], records: Sequence[PassRecord]) -> list[Pass]:
    """The passes that changed the graph."""
    return [p for p, record in zip(passes, records, strict=True) if record.status == "done"]


def _groups(passes: Sequence[Pass]) -> list[list[Pass]]:
    """Each pass with those that join it: only together do they have to keep the limits."""
    groups: list[list[Pass]] = []
    for item in passes:
        if item.joins and groups:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _broken(group: Sequence[Pass], outcomes: Sequence[Outcome], means: Means) -> Broken | None:
    """The limit of the user that a lossy pass and those that join it break."""
    if not any(p.lossy and o.status == "done" for p, o in zip(group, outcomes, strict=True)):
        return None
    return broken_by_user(outcomes[-1].stage, means)


def _taken_back(outcome: Outcome, stage: Stage, broken: Broken) -> Outcome:
    """A pass whose effect is gone with that of its group."""
    if outcome.status != "done":
        return replace(outcome, stage=stage)
    return replace(outcome, stage=stage, status="rolled back", reason=str(broken), broken=broken)


def taken_back(records: Sequence[PassRecord], step: Driven, broken: Broken) -> list[PassRecord]:
    """The records of a run whose passes from a step on were taken back for a limit."""
    kept, gone = records[: step.first], records[step.first :]
    size, macs = step.before.graph.weight_bytes, step.before.macs
    return [
        *kept,
        *(
            replace(
                item,
                status="rolled back",
                reason=str(broken),
                broken=broken,
                changes=[],
                missed=None,
                taken=Taken(),
                bytes=size,
                macs=macs,
            )
            if item.status == "done"
            else item
            for item in gone
        ),
    ]


def record_of(item: Pass, outcome: Outcome) -> PassRecord:
    """A pass and what came of it, as a line of the report."""
    done = outcome.status == "done"
    return PassRecord(
        name=item.name,
        spec=format_passes([item]),
        status=outcome.status,
        reason=outcome.reason,
        seconds=outcome.seconds,
        changes=outcome.changes.edits if done else [],
        skipped=outcome.changes.skips,
        bytes=outcome.stage.graph.weight_bytes,
        macs=outcome.stage.macs,
        sqnr_db=None if outcome.quality is None else outcome.quality.least_db,
        curves=outcome.changes.curves,
        broken=outcome.broken,
        needs=outcome.needs,
        note=outcome.note if done else "",
        missed=outcome.changes.missed if done or outcome.status == "nothing to do" else None,
        taken=outcome.changes.taken if done else Taken(),
    )


def dry_run(stage: Stage, means: Means, passes: Sequence[Pass]) -> list[PassRecord]:
    """What each pass would meet: preconditions only, nothing is edited or run.

    Those of the first pass are checked on the model. What the others will find is up to the
    passes before them; of these only what they ask of the data is looked at.
    """
    lenient = replace(means, limits=replace(means.limits, strict=False))
    records = []
    for index, item in enumerate(passes):
        outcome = drive(item, stage, lenient, until="data" if index else "check")
        spec, size = format_passes([item]), stage.graph.weight_bytes
        status, reason, needs = outcome.status, outcome.reason, outcome.needs
        record = PassRecord(
            item.name, spec, status, reason, 0.0, [], [], size, None, None, needs=needs
        )
        records.append(record)
    return records
