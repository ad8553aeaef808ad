"""Figures and names as a reader likes them; terminal and HTML speak the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.analysis.audit import Audit
    from graphopt.report.findings import Inspection
    from graphopt.run.quality import Metric, Quality
    from graphopt.run.record import LimitRecord, ModelRecord, RunRecord
    from graphopt.runtime.latency import Clock

__all__ = [
    "NONE",
    "by_table",
    "candidate_times",
    "change",
    "count",
    "decibel",
    "factor",
    "limit",
    "limit_measured",
    "macs_note",
    "measured_on",
    "met",
    "metric_figures",
    "metric_title",
    "metric_value",
    "milliseconds",
    "pace",
    "percent",
    "phrases",
    "plain",
    "ratio",
    "rolled_back",
    "size",
    "time_ratio",
    "time_words",
]

_EXACT_DB = 200
NONE = "-"
_STEPS = ("", "k", "M", "G", "T")
_LIMITS = {
    "min_sqnr_db": "SQNR of every output at least {:g} dB",
    "min_agreement": "at least {:g} % of the decisions the same",
    "max_drop": "{} by {:g} at most",
}


def plain(text: str) -> str:
    """Text from a model without control characters, which could steer a terminal."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)


def size(amount: float | None) -> str:
    """Bytes with a decimal prefix.

    >>> size(999), size(90_994_831)
    ('999 B', '91.0 MB')
    """
    return NONE if amount is None else f"{_scaled(amount)}B"


def count(amount: float | None) -> str:
    """A number of things with a decimal prefix.

    >>> count(54), count(41_000_000)
    ('54', '41.0 M')
    """
    return NONE if amount is None else _scaled(amount).rstrip()


def _scaled(amount: float) -> str:
    step = 0
    while abs(amount) >= 999.5 and step < len(_STEPS) - 1:
        amount /= 1000
        step += 1
    if step == 0:
        return f"{amount:.0f} "
    digits = 1 if abs(amount) < 99.95 else 0
    return f"{amount:.{digits}f} {_STEPS[step]}"


def macs_note(model: ModelRecord | Inspection) -> str:
    """What the MACs of a model are counted for, or why they are not; empty for fixed sizes."""
    if model.macs_missing:
        return f"unknown: {model.macs_missing}"
    at = [f"{name} {'x'.join(map(str, shape))}" for name, shape in model.macs_at.items()]
    return f"of one run with {', '.join(at)}" if at else ""


def milliseconds(value: float | None) -> str:
    """A time in milliseconds, to three digits, as quotients of two times should come out right.

    >>> milliseconds(0.0853), milliseconds(0.5), milliseconds(2.5), milliseconds(340.7)
    ('0.0853 ms', '0.500 ms', '2.50 ms', '341 ms')
    """
    if value is None:
        return NONE
    bounds = (0.001, 0.01, 0.1, 1, 10, 100)
    digits = next((6 - place for place, bound in enumerate(bounds) if value < bound), 0)
    return f"{value:.{digits}f} ms"


def decibel(value: float | None) -> str:
    """A ratio in dB; from 200 dB on two results are the same in every bit that counts."""
    if value is None:
        return NONE
    return "exact" if value >= _EXACT_DB else f"{value:.1f} dB"


def percent(value: float | None) -> str:
    """A share that is given in percent already."""
    return NONE if value is None else f"{value:.2f} %"


def ratio(value: float | None) -> str:
    """A quotient: ``0.26x``."""
    return NONE if value is None else f"{value:.2f}x"


def change(before: float | None, after: float | None) -> str:
    """How ``after`` stands to ``before``: ``0.26x``; a dash where one is unknown or zero."""
    return NONE if not before or after is None else ratio(after / before)


def factor(before: float, after: float, less: str, more: str) -> tuple[str, str]:
    """A change as a headline: a figure from 1 up, and the word that says which way.

    >>> factor(400, 100, "smaller", "larger"), factor(100, 150, "smaller", "larger")
    (('4.00x', 'smaller'), ('1.50x', 'larger'))
    """
    if min(before, after) <= 0 or abs(after / before - 1) < 0.005:
        return "same", ""
    return (ratio(before / after), less) if after < before else (ratio(after / before), more)


def time_ratio(
    value: float | None, spread: float | None, clock: Clock | None, digits: int = 2
) -> str:
    """A ratio of times with its spread; a difference within the spread is called none.

    >>> time_ratio(0.486, 0.021, "wall"), time_ratio(0.98, 0.03, "processor")
    ('0.49x +-0.02', '0.98x +-0.03, none')
    >>> time_ratio(1.0, 0.0, "graph")
    '1.00x, same graph'
    >>> time_ratio(0.5, 0.05, "table")
    '0.50x, reckoned'
    """
    if value is None:
        return NONE
    if clock == "graph":
        return f"{value:.{digits}f}x, same graph"
    if clock == "table":
        return f"{value:.{digits}f}x, reckoned"
    if not spread:
        return f"{value:.{digits}f}x"
    none = ", none" if abs(value - 1) <= spread else ""
    return f"{value:.{digits}f}x +-{spread:.{digits}f}{none}"


def time_words(clock: Clock | None, timed_on: str = "") -> str:
    """What the times of a clock are called in front of them; ``here`` where that is elsewhere.

    >>> time_words("wall"), time_words("wall", "onnxruntime on this x86-64, not 64-bit Arm")
    ('latency', 'latency here')
    """
    words = "processor time" if clock == "processor" else "latency"
    return f"{words} here" if timed_on else words


def by_table(audit: Audit) -> str:
    """Who says what runs on integers, where that is a target's table, and what it asks for."""
    if not audit.table:
        return ""
    open_ = ", ".join(audit.unfixed)
    once = f", once the sizes are fixed that are open ({open_})" if open_ else ""
    return f", by the table of {audit.table}{once}"


def candidate_times(record: RunRecord) -> str:
    """What the times of candidates are."""
    if any(item.latency_clock == "table" for item in record.candidates):
        return f"reckoned from the table of {record.environment.target}, not timed"
    return "processor time"


def pace(value: float | None, spread: float | None, clock: Clock | None = None) -> tuple[str, str]:
    """A ratio of latencies as a headline; within its spread it is no difference.

    >>> pace(0.5, 0.02), pace(1.01, 0.02), pace(1.0, 0.0, "graph")
    (('2.00x', 'faster'), ('same', 'within the spread'), ('same', 'the same graph runs'))
    """
    if value is None:
        return NONE, ""
    if clock == "graph":
        return "same", "the same graph runs"
    if abs(value - 1) <= (spread or 0.0):
        return "same", "within the spread"
    return factor(1.0, value, "faster", "slower")


def metric_title(metric: Metric, outputs: int) -> str:
    """What a metric is called, with the output that it judges where there are several."""
    return f"{metric.name} of {metric.output}" if metric.output and outputs > 1 else metric.name


def metric_figures(metric: Metric) -> tuple[str, str, str]:
    """Before, after and change: shares to a hundredth of a percent, errors to four digits.

    >>> from graphopt.run.quality import Metric
    >>> metric_figures(Metric("mse", 0.0012, 0.00125, higher_is_better=False))
    ('0.0012', '0.00125', '+5e-05')
    """
    change = metric.after - metric.before
    told = f"{change:+.2f}" if metric.higher_is_better else f"{change:+.3g}"
    return metric_value(metric, metric.before), metric_value(metric, metric.after), told


def metric_value(metric: Metric, value: float | None) -> str:
    """A value of a metric: shares to a hundredth of a percent, errors to four digits."""
    if value is None:
        return NONE
    return f"{value:.2f}" if metric.higher_is_better else f"{value:.4g}"


def phrases(*parts: str) -> str:
    """What is not empty of some phrases, with commas."""
    return ", ".join(part for part in parts if part)


def measured_on(quality: Quality) -> str:
    """How many samples there were, from where, and what they are worth."""
    text = "1 sample" if quality.samples == 1 else f"{quality.samples} samples"
    if quality.source != "data":
        text += f" ({quality.source})"
    if quality.alike:
        text += ", all alike: they count as one, which says nothing of others"
    elif quality.samples == 1:
        text += ", which says nothing of others"
    elif quality.fresh is not None:
        text += "; 'at least' holds in 95 of 100 cases, for samples of the same kind"
    return text


def limit(record: LimitRecord, quality: Quality | None) -> str:
    """A limit as a sentence.

    Args:
        record: The limit.
        quality: What was measured; the metric's name and which way it gets worse are taken from it.
    """
    if record.name != "max_drop":
        return _LIMITS[record.name].format(record.asked)
    metric = None if quality is None else quality.metric
    worsens = "metric falls" if metric is None else metric.worsens
    return _LIMITS[record.name].format(worsens, record.asked)


def limit_measured(record: LimitRecord) -> str:
    """What a limit was measured to be, and its standard error, where that can be told."""
    measured = _figure(record, record.measured)
    return measured if record.error is None else f"{measured} +-{record.error:.2g}"


def _figure(record: LimitRecord, value: float | None) -> str:
    """A figure of a limit; of the unit of a metric nothing is known."""
    if value is None:
        return NONE
    if record.name == "min_sqnr_db" and value >= _EXACT_DB:
        return decibel(value)
    return f"{value:{'.3g' if record.name == 'max_drop' else '.2f'}}"


def rolled_back(record: LimitRecord) -> str:
    """Which passes a limit cost, and what is written without them; empty for none."""
    if not record.taken_back:
        return ""
    without = _figure(record, record.written)
    return f"so {' and '.join(record.taken_back)} taken back; written without: {without}"


def met(record: LimitRecord) -> str:
    """The verdict on a limit; what few samples met by chance is said."""
    if not record.met:
        nothing = "nothing measures it" if record.measured is None else ""
        return phrases("NOT MET", nothing, rolled_back(record))
    doubt = "" if record.surely else f" here; fresh samples at least {record.fresh:.2f}"
    return f"met{doubt}"
