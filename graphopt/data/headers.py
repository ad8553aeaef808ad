"""Bounds on the headers of pictures, where a small file can make a decoder work for hours."""

from __future__ import annotations

import re
import struct
from io import BufferedReader
from typing import Any

from graphopt.errors import DataError

__all__ = ["PIXEL_READS", "BoundedReads", "check_pnm_header", "check_scans", "check_tiff_tables"]

_HEADER_READS = 100_000
"""One of Pillow's chunks, markers or tags takes about three."""
PIXEL_READS = 500_000
"""Half a gigabyte of PNG in chunks of 8 KiB takes as many."""
_PLAIN_BYTES, _PLAIN_COMMENTS = 1 << 25, 1000
_PNM_HEADER = 1 << 14
_MOST_SCANNED = 1 << 30
"""Pixels of a JPEG times its scans; progressive ones have about ten."""
_TABLES = (273, 279, 324, 325)  # offsets and lengths of strips and tiles
_TILE_SIDES = (322, 323)
_MOST_PARTS = 1 << 19  # twice as many tiles of 16 x 16 as the largest picture has
_MOST_TAGS = 4096


class BoundedReads:
    """A file for Pillow that refuses to be read in too many pieces."""

    def __init__(self, file: BufferedReader) -> None:
        self._file, self._left = file, _HEADER_READS

    def allow(self, more: int = PIXEL_READS) -> None:
        """So many further reads, now that the header is known."""
        self._left = more

    def read(self, size: int = -1) -> bytes:
        """Bytes from where it stands.

        Raises:
            DataError: That took too many reads.
        """
        self._left -= 1
        if self._left < 0:
            raise DataError("cannot be read as an image: it is in too many pieces")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def check_pnm_header(file: Any, size: int) -> None:
    """Pillow reads the header of a PNM byte by byte, and comments in one of text one by one.

    Raises:
        DataError: The header does not end soon, or there are too many comments.
    """
    head = file.read(_PNM_HEADER)
    file.seek(0)
    if re.match(rb"P[1-3]", head):
        text = file.read(_PLAIN_BYTES + 1)
        file.seek(0)
        if len(text) > _PLAIN_BYTES or text.count(b"#") > _PLAIN_COMMENTS:
            raise DataError("cannot be read as an image: too long for a PNM of text; save as PNG")
    if re.match(rb"P[1-7]", head) and size > _PNM_HEADER:
        parts = re.sub(rb"#[^\r\n]*", b"", head[2:]).split(maxsplit=2)
        if len(parts) < 2:
            raise DataError("cannot be read as an image: its header is too long")


def check_scans(file: Any, pixels: int) -> None:
    """Each scan of a progressive JPEG, of a few bytes, goes over all pixels again.

    Raises:
        DataError: There are more than any encoder makes.
    """
    place = file.tell()
    file.seek(0)
    scans, before = 0, b""
    while block := file.read(1 << 20):
        scans += (before + block).count(b"\xff\xda")
        before = block[-1:]
    file.seek(place)
    if scans > 1 and scans * pixels > _MOST_SCANNED:
        raise DataError(f"cannot be read as an image: {scans} scans of {pixels} pixels")


def check_tiff_tables(file: Any, most_pixels: int) -> None:
    """Pillow makes an object of each strip, and libtiff takes memory for a whole tile.

    Raises:
        DataError: More strips or tags than a picture has, or larger tiles.
    """
    head = file.read(16)
    file.seek(0)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        return
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    if version not in (42, 43):
        return
    large = version == 43
    (start,) = struct.unpack_from(f"{order}{'Q' if large else 'I'}", head, 8 if large else 4)
    file.seek(min(start, 1 << 62))
    counted = file.read(8 if large else 2)
    entry = struct.Struct(f"{order}HHQ8s" if large else f"{order}HHI4s")
    tags = int.from_bytes(counted, "little" if order == "<" else "big")
    data = file.read(min(tags, _MOST_TAGS) * entry.size)
    file.seek(0)
    if tags > _MOST_TAGS:
        raise DataError(f"cannot be read as an image: {tags} tags")
    tile = 1
    for tag, kind, count, value in entry.iter_unpack(data[: len(data) // entry.size * entry.size]):
        if tag in _TABLES and count > _MOST_PARTS:
            raise DataError(f"cannot be read as an image: {count} strips or tiles")
        if tag in _TILE_SIDES:
            tile *= struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", value)[0]
    if tile > most_pixels:
        raise DataError(f"cannot be read as an image: tiles of {tile} pixels are too many")
