"""From a plan to a form of the model that holds what was asked."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.contract.recipe import Recipe
from graphopt.errors import LimitError
from graphopt.run.limits import broken_by
from graphopt.run.means import Means
from graphopt.run.record import PassRecord
from graphopt.run.sequence import Driven, done_passes, run_passes, taken_back
from graphopt.run.stage import Stage
from graphopt.run.verify import Verified, verify
from graphopt.search.choice import Choice
from graphopt.search.planner import search

__all__ = ["follow"]


def follow(plan: Recipe, stage: Stage, means: Means, start: Stage | None = None) -> Choice:
    """What a plan comes to: its passes, or what the planner chooses where it says ``auto``.

    Passes whose result breaks a limit of the user on all samples that judge it are taken back,
    the last ones first: the best model that meets the limits is written.

    Args:
        plan: What to do.
        stage: Where the model stands.
        means: What to measure with.
        start: The model as it came, where that is not the reference.

    Raises:
        PassError: Under ``strict``, a precondition does not hold.
        LimitError: Under ``strict``, a pass broke a limit.
        ModelError: onnxruntime cannot run the result.
        DataError: The metric cannot be computed.
    """
    if plan.auto:
        return search(stage, means)
    trail: list[Driven] = []
    stage, records = run_passes(stage, means, plan.passes, trail)
    verified: Verified | None = None
    if means.limits.any and means.judge is not None:
        stage, records, verified = _within(stage, records, trail, means, start)
    return Choice(stage, records, done_passes(plan.passes, records), verified=verified)


def _within(
    stage: Stage,
    records: list[PassRecord],
    trail: Sequence[Driven],
    means: Means,
    start: Stage | None,
) -> tuple[Stage, list[PassRecord], Verified]:
    """The last state that holds the limits on all samples; the model as it came holds any."""
    for step in reversed(trail):
        if not step.lossy or all(item.status != "done" for item in records[step.first :]):
            continue
        verified = verify(stage, means, start)
        broken = broken_by(verified.quality, means.limits)
        if broken is None:
            return stage, records, verified
        if means.limits.strict:
            raise LimitError(str(broken))
        stage, records = step.before, taken_back(records, step, broken)
    return stage, records, verify(stage, means, start)
