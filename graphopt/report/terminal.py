"""The record of a run as tables on a terminal."""

from __future__ import annotations

from collections import Counter

from rich.console import Console

from graphopt.report.advice import advised
from graphopt.report.answers import answers, closeness
from graphopt.report.charts import grouped
from graphopt.report.console import facts, heading, line, table, terminal
from graphopt.report.curves import course
from graphopt.report.widths import merged, totals
from graphopt.report.words import (
    NONE,
    by_table,
    candidate_times,
    change,
    count,
    decibel,
    limit,
    limit_measured,
    macs_note,
    measured_on,
    met,
    metric_figures,
    metric_title,
    metric_value,
    milliseconds,
    percent,
    size,
    time_ratio,
    time_words,
)
from graphopt.run.record import PassRecord, RunRecord
from graphopt.tasks.words import grouped_tasks

__all__ = ["print_run"]

_REASONS = 8
_WIDTHS = 12


def print_run(record: RunRecord, *, verbose: bool = False) -> None:
    """Before and after, the candidates, the passes, the audit, the limits.

    Args:
        record: The run.
        verbose: Every change and every skipped node instead of counts.
    """
    console = terminal()
    if record.dry_run:
        line(console, "Dry run: nothing was written. It would run:", "bold")
        _plan(console, record)
    else:
        _passes(console, record)
        _channels(console, record)
        _trainings(console, record)
        _candidates(console, record)
        _models(console, record)
        _audit(console, record, verbose)
        _limits(console, record)
    if verbose:
        for item in record.passes:
            _details(console, item)
    if record.messages:
        console.print()
    for message in record.messages:
        line(console, message)
    if record.output is not None and record.output.path is not None:
        line(console, f"Written: {record.output.path}", "bold")


def _plan(console: Console, record: RunRecord) -> None:
    heading(console, "Passes")
    table(console, ("pass", "outcome"), [(item.spec, _outcome(item)) for item in record.passes])


def _passes(console: Console, record: RunRecord) -> None:
    if not record.passes:
        return
    heading(console, "Passes")
    rows = [
        (
            item.name,
            item.status,
            str(len(item.changes)),
            str(len(item.skipped)),
            size(item.bytes),
            decibel(item.sqnr_db),
            f"{item.seconds:.1f} s",
        )
        for item in record.passes
    ]
    titles = ("pass", "outcome", ">changed", ">skipped", ">weights", ">SQNR", ">time")
    table(console, titles, rows)
    for item in record.passes:
        if item.status in ("refused", "rolled back"):
            line(console, f"{item.name} {_outcome(item)}")
        if item.missed is not None:
            line(console, f"{item.name}: {item.missed}")


def _channels(console: Console, record: RunRecord) -> None:
    """Widths of what got narrower; groups of the same widths in one line."""
    rows = merged(record.passes)
    if not rows:
        return
    heading(console, totals(record.passes))
    shown = rows[:_WIDTHS]
    lines = [
        (str(each.groups), f"{each.before} -> {each.after}", each.first + _more(each.groups))
        for each in shown
    ]
    table(console, (">groups", ">channels", "made by"), lines)
    if len(rows) > len(shown):
        rest = len(rows) - len(shown)
        words = f"and {rest} more such line{'s' * (rest > 1)}; -v shows every group"
        line(console, words, "dim")


def _more(groups: int) -> str:
    return f" and {groups - 1} more" if groups > 1 else ""


def _trainings(console: Console, record: RunRecord) -> None:
    """The course of each training; steps without effect are told under the table."""
    trained = [(item.name, course(item.curves)) for item in record.passes if item.curves]
    if not trained:
        return
    heading(console, "Training")
    scores = [told.metric for _, told in trained if told.metric]
    titles = ["pass", ">steps", "samples", "held-out loss", *scores[:1], "kept"]
    rows = [
        [name, told.steps, told.samples, told.loss, *([told.score] if scores else []), told.kept]
        for name, told in trained
    ]
    table(console, titles, rows)
    for name, told in trained:
        if told.outcome:
            line(console, f"{name}: {told.outcome}")


def _outcome(item: PassRecord) -> str:
    reason = advised(item.reason, item.needs)
    return f"{item.status}: {reason}" if reason else item.status


def _candidates(console: Console, record: RunRecord) -> None:
    if not record.candidates:
        return
    heading(console, f"Candidates against the cleaned model; latency is {candidate_times(record)}")
    metric = None if record.quality is None else record.quality.metric
    judged = metric if any(item.metric is not None for item in record.candidates) else None
    rows = [
        (
            item.name,
            size(item.bytes),
            time_ratio(item.latency_ratio, item.latency_spread, item.latency_clock),
            decibel(item.sqnr_db),
            percent(item.agreement_top1),
            *([] if judged is None else [metric_value(judged, item.metric)]),
            ("chosen: " if item.chosen else "") + advised(item.verdict, item.needs),
        )
        for item in record.candidates
    ]
    chosen = [index for index, item in enumerate(record.candidates) if item.chosen]
    more = [] if judged is None else [f">{judged.name}"]
    titles = ("candidate", ">bytes", ">latency", ">SQNR", ">agreement", *more, "verdict")
    table(console, titles, rows, strong=chosen)


def _models(console: Console, record: RunRecord) -> None:
    before, after, quality = record.input, record.output, record.quality
    if after is None:
        return
    sides = ("before", "after") if record.start is None else ("teacher", "student")
    heading(console, " and ".join(sides).capitalize())
    rows = [
        ("bytes", size(before.bytes), size(after.bytes), change(before.bytes, after.bytes)),
        (
            "compressed",
            size(before.compressed_bytes),
            size(after.compressed_bytes),
            change(before.compressed_bytes, after.compressed_bytes),
        ),
        (
            "parameters",
            count(before.params),
            count(after.params),
            change(before.params, after.params),
        ),
        ("MACs", count(before.macs), count(after.macs), change(before.macs, after.macs)),
        ("nodes", str(before.nodes), str(after.nodes), NONE),
        (
            time_words(record.latency_clock, record.environment.timed_on),
            milliseconds(before.latency_ms),
            milliseconds(after.latency_ms),
            time_ratio(record.latency_ratio, record.latency_spread, record.latency_clock),
        ),
    ]
    if quality is not None and quality.metric is not None:
        rows += [
            (metric_title(each, len(record.tasks)), *metric_figures(each))
            for each in (quality.metric, *quality.metric.beside)
        ]
    table(console, ("", *(f">{side}" for side in sides), ">change"), rows)
    notes = map(macs_note, (before, after))
    for note in dict.fromkeys(filter(None, notes)):
        line(console, f"MACs {note}", "dim")
    if record.tasks:
        heading(console, "What the outputs mean")
        facts(console, grouped_tasks(record.tasks))
    if quality is not None:
        console.print()
        _quality(console, record)


def _quality(console: Console, record: RunRecord) -> None:
    quality = record.quality
    assert quality is not None
    rows = answers(quality)
    if record.start is not None and record.start.quality is not None:
        rows.append(("before training", closeness(record.start.quality)))
    if quality.samples:
        rows.append(("measured on", measured_on(quality)))
    if quality.note:
        rows.append(("note", advised(quality.note, quality.needs)))
    environment = record.environment
    rows.append(("machine", f"{environment.cpu}, {environment.threads} threads"))
    rows.append(("target", environment.target))
    if environment.timed_on:
        rows.append(("times", f"of {environment.timed_on}"))
    facts(console, rows)


def _audit(console: Console, record: RunRecord, verbose: bool) -> None:
    if record.audit is None:
        return
    integer, left = record.audit.integer, record.audit.float_
    by = by_table(record.audit)
    total = len(integer) + len(left)
    heading(console, f"On integer kernels: {len(integer)} of {total} layers{by}")
    if verbose:
        rows = [(entry.node, entry.op_type, entry.kernel, entry.reason) for entry in left]
        table(console, ("float layer", "op", "kernel", "reason"), rows)
        return
    reasons = Counter(entry.reason or "no reason known" for entry in left).most_common()
    shown = reasons[:_REASONS]
    facts(console, [(f"{number} float", reason) for reason, number in shown])
    if len(reasons) > len(shown):
        line(console, f"and {len(reasons) - len(shown)} more reasons; -v shows every layer", "dim")


def _limits(console: Console, record: RunRecord) -> None:
    if not record.limits:
        return
    heading(console, "Limits")
    rows = [
        (
            limit(item, record.quality),
            limit_measured(item),
            met(item),
        )
        for item in record.limits
    ]
    table(console, ("limit", ">measured", "verdict"), rows)


def _details(console: Console, item: PassRecord) -> None:
    """Every change and every skipped node of one pass."""
    if not item.changes and not item.skipped:
        return
    heading(console, item.spec)
    rows = [(edit.node, edit.what) for edit in item.changes]
    if item.curves is not None:  # which says more than the same word for each tensor
        rows = [(f"{len(each.nodes)} tensors", each.text) for each in grouped(item.changes, "what")]
    rows += [(skip.node, f"left alone: {skip.reason}") for skip in item.skipped]
    table(console, ("node", "what"), rows)
