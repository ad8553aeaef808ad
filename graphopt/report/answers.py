"""How close answers are, as lines of a label and a text; terminal and HTML say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.report.words import NONE, decibel, metric_figures, percent, phrases

if TYPE_CHECKING:
    from graphopt.run.quality import Quality
    from graphopt.tasks.quality import FoundRows, OutputQuality
    from graphopt.tasks.task import TaskKind

__all__ = ["answers", "closeness", "decisions"]

_SHOWN_DB = 1.0
"""A figure that is this much less than that of the whole is told beside it."""
_DECISIONS: dict[TaskKind, str] = {
    "classes": "top-1 agreement",
    "binary": "same side of the threshold",
    "multi-label": "same side of the threshold",
    "container": "same decisions",
}
_EQUAL = "equal values"


def closeness(quality: Quality) -> str:
    """How close a model is to another in a line: metric, worst SQNR, least agreement."""
    metric = quality.metric
    parts = [] if metric is None else [f"{metric.name} {metric_figures(metric)[1]}"]
    if quality.least_db is not None:
        parts.append(f"SQNR {decibel(quality.least_db)}")
    if quality.agreement_top1 is not None:
        parts.append(f"top-1 agreement {percent(quality.agreement_top1)}")
    elif quality.least_agreement is not None:
        parts.append(f"agreement {percent(quality.least_agreement)}")
    return ", ".join(parts) or "not measured"


def decisions(kind: TaskKind) -> str:
    """What the agreement of an output of a kind is the share of."""
    return _DECISIONS.get(kind, _EQUAL)


def answers(quality: Quality) -> list[tuple[str, str]]:
    """A line or two for each output: what its kind is measured by."""
    lines, sets = [], dict[str, list[str]]()
    for name, each in quality.outputs.items():
        if each.compared and not each.fault and each.rows is not None:
            sets.setdefault(_rows(each.rows), []).append(name)
    lines += [(f"rows of {', '.join(names)}", text) for text, names in sets.items()]
    for name in quality.sqnr_db:
        told = quality.outputs.get(name)
        if told is not None and not told.compared:
            lines.append((f"output {name}", f"not compared: {told.reason}"))
            continue
        if told is not None and told.fault:
            lines.append((f"output {name}", told.fault))
            continue
        lines += _of(name, quality, told)
    return lines


def _of(name: str, quality: Quality, told: OutputQuality | None) -> list[tuple[str, str]]:
    """The lines of one output that was compared."""
    lines = []
    value = quality.sqnr_db[name]
    if value is not None:
        text = phrases(decibel(value), _parts(told), _others(quality, name))
        lines.append((f"SQNR of {name}", text))
    if told is not None and told.after_steps_db is not None:
        text = f"{decibel(told.after_steps_db)}, each model with its own state"
        lines.append((f"after {told.steps} steps of {name}", text))
    share = None if told is None else told.agreement
    if told is not None and share is not None:
        fresh = None if quality.fresh is None else quality.fresh.agreement.get(name)
        least = "" if fresh is None else f"fresh samples at least {percent(fresh)}"
        lines.append(
            (f"{decisions(told.kind)} of {name}", phrases(percent(share), _unusual(told), least))
        )
    if told is not None and told.not_finite:
        many = "1 sample" if told.not_finite == 1 else f"{told.not_finite} samples"
        where = f"the model before holds NaN or infinity itself in {many}"
        lines.append((f"output {name}", where))
    if not lines and (told is None or told.rows is None):
        lines.append((f"output {name}", NONE))
    return lines


def _parts(told: OutputQuality | None) -> str:
    """The figures that are worse than that of the whole."""
    if told is None or told.sqnr_db is None:
        return ""
    parts = []
    bound = told.sqnr_db - _SHOWN_DB
    if told.about_mean_db is not None and told.about_mean_db <= bound:
        parts.append(f"{decibel(told.about_mean_db)} about its means")
        bound = told.about_mean_db - _SHOWN_DB
    worst = told.worst_slice
    if worst is not None and worst.sqnr_db <= bound:
        parts.append(f"index {worst.index} of axis {worst.axis} {decibel(worst.sqnr_db)}")
    return phrases(*parts)


def _others(quality: Quality, name: str) -> str:
    """The worst sample, and the least of fresh ones."""
    parts = []
    worst = quality.worst_sample_db.get(name)
    if worst is not None and quality.samples > 1 and not quality.alike:
        parts.append(f"worst sample {decibel(worst)}")
    if quality.fresh is not None and quality.fresh.sqnr_db.get(name) is not None:
        parts.append(f"fresh samples at least {decibel(quality.fresh.sqnr_db[name])}")
    return phrases(*parts)


def _unusual(told: OutputQuality) -> str:
    if told.unusual is None:
        return ""
    if told.kind == "mask":
        share = told.unusual / 100
        return f"IoU {percent(100 * share / (2 - share))}"
    return f"F1 of the seldom values {percent(told.unusual)}"


def _rows(rows: FoundRows) -> str:
    """How many rows there are, and how many are right."""
    other = ""
    if rows.other_number:
        lists = "batches" if rows.batched else "samples"
        other = f"another number of rows in {rows.other_number} of {rows.lists} {lists}"
    return phrases(
        f"recall {percent(rows.recall)}",
        f"precision {percent(rows.precision)}",
        f"{rows.expected} before and {rows.actual} after",
        other,
        f"matched by {rows.by}" if rows.by else "",
    )
