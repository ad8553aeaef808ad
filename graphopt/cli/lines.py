"""Lines on standard error: what went wrong, and what a pipeline must not miss."""

from __future__ import annotations

from typing import Literal

import click

from graphopt.errors import SystemFailure, shortened
from graphopt.runtime import launch

__all__ = ["print_line"]


def print_line(kind: Literal["error", "note"], message: str) -> None:
    """Print one line; names from a model may hold line breaks or terminal codes."""
    line = "".join(mark if mark.isprintable() else " " for mark in message)
    try:
        number, _ = launch.position()
    except SystemFailure:  # which is what is being said
        number = 0
    who = f"graphopt (process {number})" if number else "graphopt"
    click.echo(f"{who}: {kind}: {shortened(' '.join(line.split()))}", err=True)
