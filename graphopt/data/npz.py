"""``.npy`` and ``.npz`` files, read a few rows at a time; pickles are never loaded.

Blocks are copied out of the file instead of mapped, so that the memory of a run does not grow with
the number of samples.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from graphopt import outside
from graphopt.data.columns import Column, Part, array_column
from graphopt.errors import DataError
from graphopt.graph.tensors import Array

__all__ = ["npy_column", "npz_part"]

_MAX_ROW_BYTES = 1 << 31
_KEEP_BYTES = 32 << 20
"""Compressed arrays up to this size are unpacked once and kept."""

Opener = Callable[[], AbstractContextManager[IO[bytes]]]
"""Opens a stream anew for each reading."""

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    SyntaxError,
    RecursionError,
    tokenize.TokenError,  # numpy parses the header of an array as Python text
    RuntimeError,  # zipfile: an encrypted member
    NotImplementedError,  # zipfile: an unknown compression
    zipfile.BadZipFile,
    zlib.error,
)


def npz_part(path: Path) -> Part:
    """The arrays of an ``.npz`` by name.

    Raises:
        DataError: Missing, not a zip file, truncated, or a member is no plain ``.npy`` array.
    """
    place = str(path)
    columns: dict[str, Column] = {}
    with _readable(place), outside.opened(path) as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name == member.filename or name in columns:
            raise DataError(f"{place}: {member.filename!r} is no array or is there twice")
        column = _column(_member_opener(path, member), member.file_size, f"{place}: {name!r}")
        if member.compress_type != zipfile.ZIP_STORED and _bytes(column) <= _KEEP_BYTES:
            column = array_column(column.whole(), place, name)
        columns[name] = column
    return Part(place, columns)


def npy_column(path: Path) -> Column:
    """The array of an ``.npy`` file.

    Raises:
        DataError: Missing, truncated, or no plain ``.npy`` array.
    """
    with _readable(str(path)):
        size = outside.regular(path).st_size
    return _column(lambda: outside.opened(path), size, str(path))


@contextmanager
def _readable(place: str) -> Iterator[None]:
    """Turn what the readers of numpy and zipfile raise into one line about ``place``."""
    try:
        yield
    except FileNotFoundError as err:
        raise DataError(f"{place}: no such file") from err
    except outside.IrregularFile as err:
        raise DataError(f"{place}: cannot be read: {err.strerror}") from err
    except _UNREADABLE as err:
        raise DataError(
            f"{place}: cannot be read (truncated or not numpy's format): {err}"
        ) from err


def _member_opener(path: Path, member: zipfile.ZipInfo) -> Opener:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with (
            outside.opened(path) as file,
            zipfile.ZipFile(file) as archive,
            archive.open(member) as stream,
        ):
            yield stream

    return opened


def _bytes(column: Column) -> int:
    return math.prod(column.shape) * column.dtype.itemsize


def _column(opened: Opener, size: int, place: str) -> Column:
    """A column over a stream in the ``.npy`` format; ``size`` is the stream's length, bytes."""
    with _readable(place), opened() as stream:
        shape, fortran_order, dtype = _header(stream)
        start = stream.tell()
    if dtype.hasobject:
        raise DataError(f"{place} is a pickled object array; refused: save plain numbers instead")
    if dtype.names or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise DataError(f"{place} has dtype {dtype} and shape {shape}; plain numbers are needed")
    if size - start < math.prod(shape) * dtype.itemsize:
        raise DataError(f"{place} is truncated: {size - start} bytes where {shape} needs more")
    if math.prod(shape[1:]) * dtype.itemsize > _MAX_ROW_BYTES:
        raise DataError(f"{place} has shape {shape}: one sample takes more than 2 GB")
    if fortran_order and math.prod(shape) * dtype.itemsize > _MAX_ROW_BYTES:
        raise DataError(
            f"{place} is in Fortran order and takes more than 2 GB, which can only be read whole; "
            "save numpy.ascontiguousarray of it"
        )

    def blocks(step: int) -> Iterator[Array]:
        with _readable(place), opened() as stream:
            stream.read(start)
            if fortran_order and len(shape) > 1:
                values = _take(stream, shape[::-1], dtype).transpose()
                yield from (values[i : i + step] for i in range(0, max(1, shape[0]), step))
                return
            if not shape:
                yield _take(stream, shape, dtype)
                return
            for first in range(0, max(1, shape[0]), step):
                yield _take(stream, (min(step, shape[0] - first), *shape[1:]), dtype)

    return Column(shape, dtype, blocks)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"version {version} of the format is for structured arrays only")


def _take(
    stream: io.BufferedIOBase | IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    wanted = math.prod(shape) * dtype.itemsize
    data = stream.read(wanted)
    if len(data) < wanted:
        raise EOFError(f"{len(data)} bytes where {wanted} must be")
    return np.frombuffer(data, dtype=dtype).reshape(shape)
