"""A folder for files that onnxruntime writes on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphopt.errors import SystemFailure

__all__ = ["scratch_folder"]


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder that is gone afterwards.

    Raises:
        SystemFailure: It cannot be made.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="graphopt-", ignore_cleanup_errors=True)
    except OSError as err:
        raise SystemFailure(
            f"no temporary folder can be made: {err.strerror or err}; free space or set TMPDIR"
        ) from err
    with folder as name:
        yield Path(name)
