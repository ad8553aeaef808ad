"""How tables look on a terminal; text from models never counts as markup or control codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graphopt.report.words import plain

__all__ = ["facts", "heading", "line", "table", "terminal"]

_PLAIN_WIDTH = 110  # columns where the output goes to a file or a pipe


class _Stdout(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command line what a reader that has gone means; rich exits with 1."""
        raise BrokenPipeError


def terminal() -> Console:
    """A console on stdout of the terminal's width, or of a fixed one in a pipe."""
    console = _Stdout(highlight=False, markup=False)
    if not console.is_terminal:
        console = _Stdout(highlight=False, markup=False, width=_PLAIN_WIDTH)
    return console


def heading(console: Console, text: str) -> None:
    """A title above a block."""
    console.print()
    console.print(Text(plain(text), style="bold"))


def line(console: Console, text: str, style: str = "") -> None:
    """One line of text as it is."""
    console.print(Text(plain(text), style=style), soft_wrap=True)


def facts(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    """Pairs of a word and what it is, one a line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(plain(name)), Text(plain(value)))
    console.print(grid)


def table(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    strong: Sequence[int] = (),
) -> None:
    """A table; a column whose title starts with ``>`` is of figures and stands right.

    Args:
        console: Where to.
        columns: Titles.
        rows: Cells as text, as many as there are titles.
        strong: Indices of rows to stress.
    """
    shown = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for title in columns:
        right = title.startswith(">")
        shown.add_column(
            title.lstrip(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for index, row in enumerate(rows):
        style = "bold" if index in strong else ""
        shown.add_row(*(Text(plain(cell)) for cell in row), style=style)
    console.print(shown)
