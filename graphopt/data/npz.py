"""``.npz`` files: arrays in a zip file, found by its directory, read a few rows at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO

from graphopt import outside
from graphopt.data.bounds import MOST_ARRAYS
from graphopt.data.columns import Column, Part, array_column
from graphopt.data.npy import Opener, bytes_on_disk, readable, stream_column
from graphopt.errors import DataError

__all__ = ["npz_part"]

_DIRECTORY_BYTES = 4 << 20
"""Room for the names of ten thousand arrays."""
_END_BYTES = 1 << 17
"""The end of an archive has a comment of up to 64 kB."""
_KEEP_BYTES = 32 << 20
"""Compressed arrays of a file up to this size, all together, are unpacked once and kept."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What numpy writes; those of other methods unpack without a bound on what they take."""


def npz_part(path: Path, most: int) -> Part:
    """The arrays of an ``.npz`` by name.

    Args:
        path: The file.
        most: Bytes that may be read at once.

    Raises:
        DataError: Missing, not a zip file, truncated, or a member is no plain ``.npy`` array.
    """
    place = str(path)
    columns: dict[str, Column] = {}
    with (
        readable(place),
        outside.opened(path) as file,
        zipfile.ZipFile(_Short(file)) as archive,
    ):
        members = archive.infolist()
    if len(members) > MOST_ARRAYS:
        raise DataError(f"{place}: {len(members):,} arrays; a model takes one for each input")
    left = min(_KEEP_BYTES, most)
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name == member.filename or name in columns:
            raise DataError(f"{place}: {member.filename!r} is no array or is there twice")
        if member.compress_type not in _METHODS:
            raise DataError(f"{place}: {name!r} is compressed otherwise than numpy does (deflate)")
        column = stream_column(_opener(path, member), member.file_size, f"{place}: {name!r}", most)
        if member.compress_type != zipfile.ZIP_STORED and column.nbytes <= left:
            left -= column.nbytes
            column = array_column(column.whole(), place, name)
        columns[name] = column
    return Part(place, columns, bytes_on_disk(path))


class _Short:
    """A file of which only short pieces are read: zipfile takes in a directory of any length."""

    def __init__(self, file: BufferedReader) -> None:
        self.file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self.close = file.close

    def read(self, size: int = -1) -> bytes:
        """As the file's own.

        Raises:
            ValueError: The piece is not short.
        """
        if size > _DIRECTORY_BYTES:
            raise ValueError(f"its directory has more than {_DIRECTORY_BYTES >> 20} MB")
        return self.file.read(_END_BYTES if size < 0 else size)


class _Known(zipfile.ZipFile):
    """An archive whose directory was read before: reading it for each array would be quadratic."""

    def _RealGetContents(self) -> None:  # noqa: N802 - a method of the base, Python 3.11 to 3.14
        """Leave the directory alone."""


def _opener(path: Path, member: zipfile.ZipInfo) -> Opener:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with (
            outside.opened(path) as file,
            _Known(file) as archive,
            archive.open(member) as stream,
        ):
            yield stream

    return opened
