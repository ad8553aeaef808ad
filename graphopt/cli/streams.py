"""What is printed where: stdout is for results."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

__all__ = ["stdout_to_stderr"]


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Have everything that is printed meanwhile go to stderr, by libraries and child processes too.

    Functions of the user's run here, and what they print must not get into ``--json``.
    """
    with redirect_stdout(sys.stderr):
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
