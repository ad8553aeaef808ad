"""Progress of long work: what, how far, time left; on stderr, in lines where it is no terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from graphopt.progress import Progress
from graphopt.report.words import plain
from graphopt.runtime import launch

__all__ = ["Lines", "progress", "speak"]

_LINE_SECONDS = 10.0

logger = logging.getLogger(__name__)


class _Plain(logging.Formatter):
    """Lines without control characters: names from a model may hold terminal codes."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def speak(but: Sequence[str] = ()) -> None:
    """Say on stderr what is going on in words, such as the memory that a step may take.

    Args:
        but: Rooms of the library that are not heard.
    """
    for room in but:
        logging.getLogger(f"graphopt.{room}").setLevel(logging.WARNING)
    if not launch.leads():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("graphopt: %(message)s"))
    logger = logging.getLogger("graphopt")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


@dataclass
class Lines:
    """Says in words how far work is, a line every ten seconds at most.

    Attributes:
        clock: Seconds that grow.
    """

    clock: Callable[[], float] = time.monotonic
    _said: float = field(init=False)
    _what: str = ""
    _began: tuple[float, int] = (0.0, 0)

    def __post_init__(self) -> None:
        self._said = self.clock()

    def __call__(self, what: str, done: int, total: int, detail: str = "", /) -> None:
        """Take note, and say it if the last line is old enough."""
        now = self.clock()
        if what != self._what:
            self._what, self._began = what, (now, done)
        if now - self._said < _LINE_SECONDS:
            return
        self._said = now
        since, first = self._began
        left = ""
        if done > first and total > done:
            seconds = (now - since) / (done - first) * (total - done)
            left = f", about {max(1, round(seconds))} s left"
        told = f"{what}: {done} of {total}{left}"
        logger.info("%s", f"{told}; {detail}" if detail else told)


@contextmanager
def progress(*, verbose: bool = False) -> Iterator[Progress | None]:
    """A function that draws a bar on stderr; where that is no terminal, ``Lines`` or None.

    Of several processes that train together only the leading one draws.

    Args:
        verbose: Say it in lines where there is no terminal.
    """
    if not launch.leads() or not sys.stderr.isatty():
        yield Lines() if verbose and launch.leads() else None
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
