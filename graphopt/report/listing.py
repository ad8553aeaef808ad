"""Tables of what ``passes``, ``inspect``, ``compare`` and ``bench`` found."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.report.console import facts, heading, line, table, terminal
from graphopt.report.pages import PassPage

__all__ = ["print_page", "print_passes"]


def print_passes(pages: Sequence[PassPage]) -> None:
    """All passes, family by family."""
    console = terminal()
    for family in sorted({page.family for page in pages}):
        heading(console, family)
        rows = [(page.name, _nature(page), page.summary) for page in pages if page.family == family]
        table(console, ("pass", "kind", "what it does"), rows)
    line(console, "graphopt passes NAME shows one pass with its options.", "dim")


def _nature(page: PassPage) -> str:
    return ("lossy" if page.lossy else "lossless") + (", needs data" * page.needs_samples)


def print_page(page: PassPage) -> None:
    """One pass in full: its text, options with bounds, an example."""
    console = terminal()
    heading(console, f"{page.name} ({page.family}; {_nature(page)})")
    console.print()
    for text in page.text.splitlines():
        line(console, text)
    console.print()
    if page.options:
        rows = [(row.name, row.default, row.values, row.help) for row in page.options]
        table(console, ("option", "default", "values", "meaning"), rows)
    else:
        line(console, "It has no options.")
        console.print()
    facts(console, [("example", page.example)])
