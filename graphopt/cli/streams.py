"""What is printed where: stdout is for results."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TextIO

__all__ = ["stdout_to_stderr"]


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Have everything that is printed meanwhile go to stderr, by libraries and child processes too.

    Functions of the user's run here; what they print must not get into ``--json``, and what they
    close is open again afterwards.
    """
    try:
        with redirect_stdout(sys.stderr), redirect_stderr(sys.stderr), _descriptor_to_stderr():
            yield
    finally:
        sys.stdout, sys.stderr = _open(sys.stdout, 1), _open(sys.stderr, 2)


@contextmanager
def _descriptor_to_stderr() -> Iterator[None]:
    try:
        sys.__stdout__.flush()  # type: ignore[union-attr]  # None is caught
        out, err = sys.__stdout__.fileno(), sys.__stderr__.fileno()  # type: ignore[union-attr]
        kept = os.dup(out)
    except (AttributeError, OSError, ValueError):  # closed, or none
        yield
        return
    try:
        os.dup2(err, out)
        yield
    finally:
        with suppress(OSError, ValueError):
            sys.__stdout__.flush()  # type: ignore[union-attr]  # it was there before
        os.dup2(kept, out)
        os.close(kept)


def _open(stream: TextIO, descriptor: int) -> TextIO:
    """The stream, or another one on its descriptor where a function has closed it."""
    if stream is None or not stream.closed:
        return stream
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
