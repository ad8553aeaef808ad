"""Progress of long work: what, how far, time left; on stderr and only on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from graphopt.progress import Progress
from graphopt.report.words import plain
from graphopt.runtime import launch

__all__ = ["progress", "speak"]


class _Plain(logging.Formatter):
    """Lines without control characters: names from a model may hold terminal codes."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def speak() -> None:
    """Say on stderr what is going on in words, such as the memory that a step may take."""
    if not launch.leads():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("graphopt: %(message)s"))
    logger = logging.getLogger("graphopt")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


@contextmanager
def progress() -> Iterator[Progress | None]:
    """A function that draws a bar on stderr; None where stderr is not a terminal.

    Of several processes that train together only the leading one draws.
    """
    if not launch.leads() or not sys.stderr.isatty():
        yield None
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[detail]}", markup=False),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks: dict[str, bars.TaskID] = {}

        def report(what: str, done: int, total: int, detail: str = "", /) -> None:
            what, detail = plain(what), plain(detail)
            if what not in tasks:
                for finished in tasks.values():
                    shown.remove_task(finished)
                tasks.clear()
                tasks[what] = shown.add_task(what, total=total, detail=detail)
            shown.update(tasks[what], completed=done, total=total, detail=detail)

        yield report
