"""Arrays in numpy's ``.npy`` format, read a few rows at a time; pickles are never loaded.

Blocks are copied out of the file instead of mapped, so that the memory of a run does not grow with
the number of samples.
"""

from __future__ import annotations

import errno
import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from graphopt import outside
from graphopt.data.bounds import check_claim, feed_too_large
from graphopt.data.columns import Column
from graphopt.errors import DataError
from graphopt.graph.tensors import Array

__all__ = ["Opener", "bytes_on_disk", "npy_column", "readable", "stream_column"]

Opener = Callable[[], AbstractContextManager[IO[bytes]]]
"""Opens a stream anew for each reading."""

_HEADER_BYTES = 10_000
"""What numpy itself parses without being told to trust the file."""
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}
_CHUNK_BYTES = 256 << 10
_MOST_SIZE = 1 << 62
_LARGE = 10**9
_EXTENTS = 100_000

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
    OverflowError,  # places in a file that no file has
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def npy_column(path: Path, most: int) -> Column:
    """The array of an ``.npy`` file.

    Args:
        path: The file.
        most: Bytes that may be read at once.

    Raises:
        DataError: Missing, truncated, no plain ``.npy`` array, or its rows are too large.
    """
    with readable(str(path)):
        size = outside.regular(path).st_size
    return stream_column(lambda: outside.opened(path), size, str(path), most)


@contextmanager
def readable(place: str) -> Iterator[None]:
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


def bytes_on_disk(path: Path) -> int:
    """What a file holds without its holes; they are looked for where it is large.

    Blocks in use are no witness: some file systems count those of a new file late.

    Raises:
        DataError: It cannot be read.
    """
    with readable(str(path)), outside.opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size < _LARGE or not hasattr(os, "SEEK_DATA"):
            return size
        found = end = 0
        for _ in range(_EXTENTS):
            try:
                begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError as err:
                if err.errno == errno.ENXIO:  # nothing but a hole up to the end
                    return found
                return size  # a file system that does not tell
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            found += end - begin
        return found + size - end


def stream_column(opened: Opener, size: int, place: str, most: int) -> Column:
    """A column over a stream in the ``.npy`` format.

    Args:
        opened: Opens the stream from its start.
        size: The stream's length, bytes.
        place: Where it is, for messages.
        most: Bytes that may be read at once.

    Raises:
        DataError: See ``npy_column``.
    """
    with readable(place), opened() as stream:
        shape, fortran_order, dtype = _header(stream)
        start = stream.tell()
    if dtype.hasobject:
        raise DataError(f"{place} is a pickled object array; refused: save plain numbers instead")
    if dtype.names or dtype.shape or dtype.itemsize == 0:
        raise DataError(f"{place} has dtype {dtype}; plain numbers are needed")
    check_claim(shape, dtype.itemsize, place)
    needed = math.prod(shape) * dtype.itemsize
    if size - start < needed:
        raise DataError(f"{place} is truncated: {size - start} bytes where {shape} needs more")
    row = math.prod(shape[1:]) * dtype.itemsize
    if row > most:
        raise feed_too_large(row, most, place, "one sample")
    if fortran_order and len(shape) > 1 and needed > most:
        what = "an array in Fortran order, which can only be read whole (save "
        raise feed_too_large(needed, most, place, f"{what}numpy.ascontiguousarray of it),")

    def blocks(step: int) -> Iterator[Array]:
        with readable(place), opened() as stream:
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
    """Shape, order and dtype; the header's length is looked at before it is read.

    Raises:
        ValueError: It is no header, or one that claims what no array has.
    """
    version = np.lib.format.read_magic(stream)
    if version not in _LENGTH_BYTES:
        raise ValueError(f"version {version} of the format is for structured arrays only")
    prefix = stream.read(_LENGTH_BYTES[version])
    length = int.from_bytes(prefix, "little")
    if length > _HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    header = io.BytesIO(prefix + stream.read(length))
    read = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        read = np.lib.format.read_array_header_2_0
    try:
        shape, fortran_order, dtype = read(header)
    except MemoryError as err:  # what Python's parser says of text that is nested too deeply
        raise ValueError("its header is no dictionary") from err
    if any(isinstance(size, bool) or not 0 <= size <= _MOST_SIZE for size in shape):
        raise ValueError("its shape holds what is no size of an axis")
    return shape, fortran_order, dtype


def _take(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The next values of a stream, which is read in chunks: some hold all that is asked twice."""
    data = np.empty(math.prod(shape) * dtype.itemsize, np.uint8)
    for first in range(0, len(data), _CHUNK_BYTES):
        chunk = stream.read(min(_CHUNK_BYTES, len(data) - first))
        if len(chunk) < min(_CHUNK_BYTES, len(data) - first):
            raise EOFError(f"{first + len(chunk)} bytes where {len(data)} must be")
        data[first : first + len(chunk)] = np.frombuffer(chunk, np.uint8)
    return data.view(dtype).reshape(shape)
