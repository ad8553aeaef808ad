"""The door through which files from outside come in: regular files only, none that blocks."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

__all__ = ["IrregularFile", "opened", "regular"]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO without a writer would block the open
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class IrregularFile(OSError):  # noqa: N818 - caught as the OSError that it is
    """Something that is there and cannot be read as a file; ``strerror`` says what it is."""


def opened(path: Path) -> BufferedReader:
    """A file to read from; a link is followed, what it leads to must be a regular file.

    What was opened is looked at again, so that nothing else can take its place in between.

    Raises:
        OSError: No such file, no permission.
        IrregularFile: A folder, a FIFO, a device, a socket, or no name that a file can have.
    """
    regular(path)  # opening a device may already do something
    descriptor = os.open(path, _FLAGS)
    try:
        _refuse_others(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def regular(path: Path) -> os.stat_result:
    """Size and identity of a file, links followed.

    Raises:
        OSError: See ``opened``.
        IrregularFile: See ``opened``.
    """
    try:
        status = path.stat()
    except ValueError as err:  # a NUL in it, or text that the file system cannot encode
        raise IrregularFile(errno.EINVAL, "no file can have this name", str(path)) from err
    _refuse_others(status, path)
    return status


def _refuse_others(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise IrregularFile(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
