"""The report as one self-contained HTML page: no script, no font, nothing from elsewhere.

Text from models is data: the template engine escapes all of it, and the page's own policy forbids
scripts and requests, should one slip through.
"""

from __future__ import annotations

from collections import Counter
from importlib import resources, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt import __version__
from graphopt.errors import SystemFailure
from graphopt.report import charts, curves, taken, tradeoff, widths, words
from graphopt.report.advice import advised
from graphopt.report.answers import answers, closeness
from graphopt.run.record import RunRecord
from graphopt.tasks.words import grouped_tasks

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render", "require"]

_TEMPLATE = "report.html.j2"
_NAME_LENGTH = 56
_TEXT_LENGTH = 400


def require() -> None:
    """Make sure that a page can be made.

    Raises:
        SystemFailure: Jinja2, which the extra ``report`` installs, is missing.
    """
    if util.find_spec("jinja2") is None:
        raise SystemFailure("an HTML report needs Jinja2; run: pip install 'graphopt[report]'")


def render(record: RunRecord) -> str:
    """The page of a run.

    Raises:
        SystemFailure: Jinja2 is missing.
    """
    require()
    name = record.input.path if record.output is None else record.output.path
    return (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            record=record,
            version=__version__,
            name=Path(name).name if name else "model in memory",
            height=charts.HEIGHT,
            kernels=_kernels(record),
            rankings=charts.rankings(record.layers),
            strips=charts.strips(record.layers),
            trainings=_trainings(record),
            width=curves.WIDTH,
            span=widths.SPAN,
            tradeoffs=tradeoff.tradeoffs(record),
            widths=widths.widths(record.passes),
            zeros=taken.zero_lists(record.passes),
            ranks=taken.rank_lists(record.passes),
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        advised=advised,
        answers=answers,
        by_table=words.by_table,
        bytes=words.size,
        candidate_times=words.candidate_times,
        change=words.change,
        closeness=closeness,
        count=words.count,
        db=words.decibel,
        factor=words.factor,
        grouped=charts.grouped,
        grouped_tasks=grouped_tasks,
        limit=words.limit,
        limit_measured=words.limit_measured,
        rolled_back=words.rolled_back,
        macs_note=words.macs_note,
        measured_on=words.measured_on,
        ms=words.milliseconds,
        pace=words.pace,
        metric_figures=words.metric_figures,
        metric_title=words.metric_title,
        metric_value=words.metric_value,
        percent=words.percent,
        ratio=words.ratio,
        short=_short,
        time_ratio=words.time_ratio,
        time_words=words.time_words,
    )
    return environment


def _read(name: str) -> str:
    return resources.files("graphopt.report").joinpath(name).read_text("utf-8")


def _printable(value: Any) -> Any:
    """Bare text without control characters and of bounded length; markup and numbers pass."""
    if type(value) is not str:
        return value
    if len(value) > _TEXT_LENGTH:
        value = value[: _TEXT_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return words.plain(value)


def _short(name: str) -> str:
    """A node's name with its end, which tells more than its beginning."""
    if len(name) <= _NAME_LENGTH:
        return name
    return "\N{HORIZONTAL ELLIPSIS}" + name[1 - _NAME_LENGTH :]


def _kernels(record: RunRecord) -> list[tuple[str, int]]:
    """Integer kernels with the number of layers on each, most frequent first."""
    if record.audit is None:
        return []
    return Counter(entry.kernel for entry in record.audit.integer).most_common()


def _trainings(record: RunRecord) -> list[tuple[str, curves.Course, list[curves.Plot]]]:
    """Each pass that trained: its name, its course in words, its plots."""
    return [
        (item.name, curves.course(item.curves), curves.plots(item.curves))
        for item in record.passes
        if item.curves is not None
    ]
