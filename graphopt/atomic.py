"""Files written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

__all__ = ["Staged", "whole"]


@contextmanager
def whole(path: Path, part: Path | None = None) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` when the block ends without an error.

    Args:
        path: In a folder that exists.
        part: Its name until then, so that what a killed writer left is written over; None for a
            name that nothing has.

    Raises:
        OSError: Disk full, no permission, no such folder; what was there before stays.
    """
    with Staged() as staged:
        with staged.open(path, part) as file:
            yield file
        staged.commit()


class Staged:
    """Files written under temporary names beside their places, put there together."""

    def __init__(self) -> None:
        self._files: list[tuple[Path, Path]] = []

    def __enter__(self) -> Self:
        return self

    @contextmanager
    def open(self, path: Path, part: Path | None = None) -> Iterator[BinaryIO]:
        """A new file that ``commit`` renames to ``path``; synced when it is closed.

        It is called ``part`` until then, and what is there is written over; None for a new name.
        """
        temporary = _beside(path) if part is None else part
        unwanted = os.O_EXCL if part is None else os.O_TRUNC
        flags = os.O_WRONLY | os.O_CREAT | unwanted | getattr(os, "O_BINARY", 0)
        self._files.append((temporary, path))
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:  # mode as umask has it
            yield file
            file.flush()
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Rename every file; the last one opened comes last, and if it fails the others go back."""
        *others, (last, place) = self._files
        kept: list[tuple[Path, Path]] = []
        try:
            for temporary, path in others:
                if path.exists():
                    kept.append((_beside(path), path))
                    path.replace(kept[-1][0])
                temporary.replace(path)
            last.replace(place)
        except BaseException:
            for _, path in others:
                path.unlink(missing_ok=True)
            for backup, path in kept:
                backup.replace(path)
            raise
        for backup, _ in kept:
            backup.unlink()
        _sync_folder(place.parent)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for temporary, _ in self._files:
            temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def _sync_folder(folder: Path) -> None:
    """Make renames survive a power failure; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
