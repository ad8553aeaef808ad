"""What a result must hold, and what it broke: values, never sentences that somebody reads back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import onnx

from graphopt.contract.settings import Limits
from graphopt.errors import DataError, Need, UsageError
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute, is_op
from graphopt.run.evaluation import evaluate
from graphopt.run.margins import agreement_error, drop_error
from graphopt.run.means import Means
from graphopt.run.quality import Caveat, Metric, Quality
from graphopt.run.record import Broken, LimitRecord, PassRecord
from graphopt.run.stage import Stage

__all__ = [
    "LOSSLESS_DB",
    "broken_by",
    "broken_by_user",
    "broken_exactness",
    "broken_floor",
    "check_limits",
    "limit_records",
    "limited_metric",
    "lossless_floor",
]

LOSSLESS_DB = 90.0
"""Float32 rounding through a deep network stays above this SQNR."""
_TIES = 0.005
"""Share of decisions that rounding may turn where two are as near to each other."""
_HALF_TIES = 0.05
_TWICE_DB = 6.0
_HALF_DB: dict[int, float] = {onnx.TensorProto.FLOAT16: 45.0, onnx.TensorProto.BFLOAT16: 25.0}
"""The same for models with weights of 11 and of 8 bits: each rounding costs 68 and 50 dB."""


def lossless_floor(graph: Graph) -> float:
    """What rounding alone may cost in a model of this precision, dB.

    That of its weights, of what it takes and gives, and of what it rounds to in between.
    """
    kinds = {tensor.data_type for scope in graph.scopes() for tensor in scope.tensors()}
    for scope in graph.scopes():
        ports = (*scope.proto.input, *scope.proto.output)
        kinds.update(value.type.tensor_type.elem_type for value in ports)
        kinds.update(attribute(node, "to", 0) for node in scope.nodes if is_op(node, "Cast"))
    return min((_HALF_DB[kind] for kind in kinds if kind in _HALF_DB), default=LOSSLESS_DB)


def broken_floor(quality: Quality, floor: float | None) -> Broken | None:
    """The first output that is below the user's floor, which holds for every figure in dB."""
    return None if floor is None else _below(quality.numbers_db, floor, "min-sqnr")


def broken_exactness(quality: Quality, means: Means) -> Broken | None:
    """The first output that a lossless pass changed by more than rounding, if there is one.

    Rounding costs each output as a whole, and of its decisions ties. Where the reference is in
    half precision it may cost twice what it costs the reference itself.
    """
    floor, ties = lossless_floor(means.reference), _TIES
    if floor < LOSSLESS_DB and means.judge is not None:
        own = means.judge.rounding
        known = [value for value in own.sqnr_db.values() if value is not None]
        floor = min([floor, *(value - _TWICE_DB for value in known)])
        turned = [each.error for each in own.outputs.values() if each.error is not None]
        ties = max([_HALF_TIES, *(2 * error for error in turned)])
    broken = _below(quality.sqnr_db, floor, "lossless")
    if broken is not None:
        return broken
    for output, each in quality.outputs.items():
        if each.error is not None and each.error > ties:
            return Broken("same", asked=ties, measured=each.error, detail=output)
    return None


def _below(
    figures: Mapping[str, float | None], floor: float, limit: Literal["lossless", "min-sqnr"]
) -> Broken | None:
    for output, value in figures.items():
        if value is not None and value < floor:
            return Broken(limit, asked=floor, measured=value, detail=output)
    return None


def limited_metric(stage: Stage, means: Means) -> Metric | None:
    """The metric beside the reference's; None where no drop is limited.

    Raises:
        ModelError: onnxruntime cannot run the model on the evaluation samples.
        DataError: The metric cannot be computed, or is nothing for the reference.
    """
    if means.limits.max_drop is None:
        return None
    assert means.evaluation is not None
    reference = means.reference_session
    (quality,) = evaluate(
        means.reference,
        [reference, stage.session],
        means.evaluation,
        means.metric,
        source="eval",
        tasks=means.tasks,
        memory_limit=means.machine.memory_limit,
        recall=None if means.judge is None else means.judge.recall,
    )
    assert quality.metric is not None
    _refuse_nothing(quality.metric)
    return quality.metric


def broken_by(quality: Quality, limits: Limits) -> Broken | None:
    """The limit of the user that measured figures break, if they break one.

    What cannot be compared holds no limit.
    """
    if limits.min_sqnr_db is not None and not quality.evidence:
        return Broken("min-sqnr", asked=limits.min_sqnr_db)
    broken = broken_floor(quality, limits.min_sqnr_db) or _fewer_agree(quality, limits)
    if broken is not None or limits.max_drop is None or quality.metric is None:
        return broken
    return _dropped(quality.metric, limits.max_drop)


def _refuse_nothing(metric: Metric) -> None:
    """Refuse to measure the fall of what is nothing to begin with; functions may count from it.

    Raises:
        DataError: By the labels the reference itself answers nothing right.
    """
    if metric.output and metric.higher_is_better and metric.before <= 0:
        raise DataError(
            f"max-drop has nothing to measure: {metric.name} of the model as it came is "
            f"{metric.before:.2f} by these labels; check that they belong to the samples and count "
            "as the model does"
        )


def _dropped(metric: Metric, most: float) -> Broken | None:
    """The limit of the drop, if the metric falls by more.

    Raises:
        DataError: By the labels the reference itself answers nothing right.
    """
    _refuse_nothing(metric)
    if metric.fall > most:
        return Broken("max-drop", asked=most, measured=metric.fall, detail=metric.worsens)
    return None


def _fewer_agree(quality: Quality, limits: Limits) -> Broken | None:
    """The limit of decisions, if fewer stay the same, or there are none."""
    asked, least = limits.min_agreement, quality.least_agreement
    if asked is None or (least is not None and least >= asked):
        return None
    return Broken("min-agreement", asked=asked, measured=least)


def broken_by_user(stage: Stage, means: Means) -> Broken | None:
    """The limit of the user that a model breaks, if it breaks one."""
    if means.judge is None:
        return None
    broken = broken_by(means.judge.compare(stage.answers), means.limits)
    if broken is not None or means.limits.max_drop is None:
        return broken
    metric = limited_metric(stage, means)
    assert metric is not None
    return _dropped(metric, means.limits.max_drop)


def check_limits(means: Means, caveat: Caveat) -> None:
    """Refuse a limit that nothing can measure.

    Args:
        means: What is measured with.
        caveat: Why there is no metric, where labels were given.

    Raises:
        UsageError: A drop is limited and there is nothing to evaluate on.
        DataError: There are no labels, or no metric for them.
    """
    if means.limits.max_drop is None:
        return
    if means.evaluation is None:
        raise UsageError("max-drop needs evaluation samples with labels", Need.EVALUATION)
    if Need.METRIC in caveat.needs:
        raise DataError(f"max-drop has nothing to measure: {caveat.note}", *caveat.needs)
    if means.metric is None and means.judge is not None:
        raise DataError(
            "max-drop needs labels, and the evaluation samples have none; add an array 'labels' "
            "(labels.npy in a folder)"
        )


def limit_records(
    means: Means, quality: Quality, passes: Sequence[PassRecord]
) -> list[LimitRecord]:
    """Every limit asked for, with what was measured.

    A limit for which passes were rolled back is not met by what was asked: the figure is then
    that of the passes, while the written model, without them, has one of its own.

    Raises:
        DataError: By the labels the reference itself answers nothing right.
    """
    limits, records = means.limits, list[LimitRecord]()
    if limits.min_sqnr_db is not None:
        broken = _taken_back(passes, "min-sqnr")
        known = [item.sqnr_db for item in broken if item.sqnr_db is not None]
        worst = min(known, default=quality.least_db)
        met = not broken and worst is not None and worst >= limits.min_sqnr_db
        fresh = None if broken else quality.fresh_db
        record = LimitRecord("min_sqnr_db", limits.min_sqnr_db, worst, met, fresh)
        records.append(_with_written(record, broken, quality.least_db))
    if limits.min_agreement is not None:
        broken = _taken_back(passes, "min-agreement")
        falls = [item.broken.measured for item in broken if item.broken is not None]
        least = min((each for each in falls if each is not None), default=quality.least_agreement)
        met = not broken and least is not None and least >= limits.min_agreement
        error = None if broken or least is None else agreement_error(quality)
        record = LimitRecord("min_agreement", limits.min_agreement, least, met, error=error)
        records.append(_with_written(record, broken, quality.least_agreement))
    if limits.max_drop is not None:
        broken = _taken_back(passes, "max-drop")
        falls = [item.broken.measured for item in broken if item.broken is not None]
        written = None if quality.metric is None else quality.metric.fall
        if quality.metric is not None:
            _dropped(quality.metric, limits.max_drop)
        fall = max((each for each in falls if each is not None), default=written)
        met = not broken and fall is not None and fall <= limits.max_drop
        error = None if broken else drop_error(quality)
        record = LimitRecord("max_drop", limits.max_drop, fall, met, error=error)
        records.append(_with_written(record, broken, written))
    return records


def _with_written(
    record: LimitRecord, cost: Sequence[PassRecord], written: float | None
) -> LimitRecord:
    """The record with what the written model has, where passes were taken back for the limit."""
    if not cost:
        return record
    return replace(record, taken_back=tuple(item.name for item in cost), written=written)


def _taken_back(passes: Sequence[PassRecord], limit: str) -> list[PassRecord]:
    """The passes whose effect a limit cost."""
    return [item for item in passes if item.broken is not None and item.broken.limit == limit]
