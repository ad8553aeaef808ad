"""Files written whole or not at all: one rename is the only switch from old to new."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

__all__ = ["Staged", "whole"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)
"""What file systems answer that cannot sync a folder, or may not open it for reading."""


@contextmanager
def whole(path: Path, part: Path | None = None) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` when the block ends without an error.

    Args:
        path: In a folder that exists.
        part: Its name until then, so that what a killed writer left goes away; None for a
            name that nothing has.

    Raises:
        OSError: Disk full, no permission, no such folder; what was there before stays.
    """
    with Staged(path, part) as staged:
        with staged.main() as file:
            yield file
        staged.commit()


class Staged:
    """A new file for ``path``, and files beside it that it refers to.

    All are written and synced under names of their own. The companions then get names that
    nothing had, and the rename of the main file switches from the old to the new. Whoever reads
    ``path`` finds the old or the new whole at every moment; on an error, what was made goes.

    Args:
        path: In a folder that exists.
        part: Name of the main file until the switch; None for a name that nothing has.
    """

    def __init__(self, path: Path, part: Path | None = None) -> None:
        self._path, self._part = path, part
        self._main = _beside(path) if part is None else part
        self._companions: list[Path] = []
        self._switching = False

    def __enter__(self) -> Self:
        return self

    @contextmanager
    def main(self) -> Iterator[BinaryIO]:
        """The file that goes to ``path``; synced when the block ends."""
        if self._part is not None:
            self._part.unlink(missing_ok=True)  # never through a link that somebody put there
        with _synced(self._main) as file:
            yield file

    @contextmanager
    def companion(self) -> Iterator[BinaryIO]:
        """A file that the main one will refer to; ``settle`` gives it its name afterwards."""
        hidden = _beside(self._path)
        self._companions.append(hidden)
        with _synced(hidden) as file:
            yield file

    def settle(self, names: Iterable[str]) -> str:
        """Give the last companion the first of ``names`` that nothing in the folder has."""
        hidden = self._companions[-1]
        for name in names:
            place = self._path.with_name(name)
            try:
                descriptor = os.open(place, _CREATE, 0o666)  # the name is ours from here on
            except FileExistsError:
                continue
            self._companions.append(place)
            os.close(descriptor)
            hidden.replace(place)
            return name
        raise FileExistsError(errno.EEXIST, "every name is taken", str(self._path))

    def commit(self) -> bool:
        """Switch to the new file.

        Returns:
            Whether the switch is known to survive a power failure; if not, what the old file
            refers to must stay.
        """
        if self._companions:
            _sync_folder(self._path.parent)  # their names, before anything refers to them
        self._switching = True
        self._main.replace(self._path)
        try:
            return _sync_folder(self._path.parent)
        except OSError:
            return False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._switching and not os.path.lexists(self._main):
            return  # the disk decides: an interrupt may come between the rename and any note of it
        for made in (self._main, *self._companions):
            with suppress(OSError):
                made.unlink()


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    with os.fdopen(os.open(path, _CREATE, 0o666), "wb") as file:  # mode as umask has it
        yield file
        file.flush()
        os.fsync(file.fileno())


def _beside(path: Path) -> Path:
    """A hidden name that nothing has, short enough wherever that of ``path`` is."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.tmp")


def _sync_folder(folder: Path) -> bool:
    """Make renames survive a power failure; whether that is known.

    Windows has no such call and needs none; of other systems some cannot.
    """
    if os.name == "nt":
        return True
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as err:
        if err.errno in _UNSUPPORTED:
            return False
        raise
    return True
