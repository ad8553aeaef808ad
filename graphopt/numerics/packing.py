"""Codes of 1 to 8 bits packed into bytes without gaps, and the tables that unpack them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BYTE",
    "fields_table",
    "held_codes",
    "pack_fields",
    "pack_planes",
    "pack_rows",
    "unpack_fields",
    "unpack_planes",
    "unpack_rows",
]

BYTE = 8
"""Bits of one."""

Codes = NDArray[Any]


def pack_fields(codes: Codes, bits: int) -> NDArray[np.uint8]:
    """Codes of 1, 2, 4 or 8 bits side by side, the first in the lowest bits of its byte.

    >>> pack_fields(np.array([1, 2, 15, 0]), 4).tolist()
    [33, 15]

    Args:
        codes: Integers from 0 to ``2^bits - 1``, of any shape, read in row-major order.
        bits: Of each.

    Returns:
        ``(codes * bits / 8,)``.

    Raises:
        ValueError: They do not fill whole bytes.
    """
    rows = codes.reshape(-1, BYTE // bits).astype(np.uint8)
    shifts = np.arange(0, BYTE, bits, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(rows << shifts, axis=1), np.uint8)


def fields_table(bits: int) -> NDArray[np.uint8]:
    """What each byte holds as fields of 1, 2 or 4 bits: ``(256, 8 / bits)``.

    >>> fields_table(4)[33].tolist()
    [1, 2]
    """
    shifts = np.arange(0, BYTE, bits)
    return np.asarray((np.arange(256)[:, None] >> shifts) & ((1 << bits) - 1), np.uint8)


def unpack_fields(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """What ``pack_fields`` packed, as one row."""
    return fields_table(bits)[packed].reshape(-1)


def pack_planes(codes: Codes, bits: int) -> NDArray[np.uint8]:
    """Codes of any width, eight at a time: a byte of their lowest bits, one of the next, and so on.

    >>> pack_planes(np.arange(8), 3).tolist()
    [[170, 204, 240]]

    Args:
        codes: Integers from 0 to ``2^bits - 1``, of any shape, read in row-major order.
        bits: Of each.

    Returns:
        ``(codes / 8, bits)``.

    Raises:
        ValueError: There is no multiple of eight of them.
    """
    rows = codes.reshape(-1, BYTE)
    planes = [pack_fields((rows >> place) & 1, 1) for place in range(bits)]
    return np.stack(planes, axis=1)


def unpack_planes(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """What ``pack_planes`` packed, as one row."""
    values = 1 << np.arange(packed.shape[1])
    bits = fields_table(1)[packed].astype(np.int64)
    return np.asarray((bits * values[:, None]).sum(axis=1).reshape(-1), np.int64)


def held_codes(codes: Codes, mask: NDArray[np.bool_]) -> Codes:
    """The codes of what a mask holds, one behind the other, with zeros behind to fill bytes.

    At least one is there behind them: what is not held looks at the next one that is.

    >>> held_codes(np.array([3, 2, 1]), np.array([True, False, True])).tolist()
    [3, 1, 0, 0, 0, 0, 0, 0]
    """
    held = codes[mask]
    filled = np.zeros((len(held) // BYTE + 1) * BYTE, codes.dtype)
    filled[: len(held)] = held
    return filled


def pack_rows(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Codes along the last axis in bytes, the first in the lowest bits; the last is filled up.

    Args:
        codes: Integers ``0 .. 2^bits - 1`` of rank 1 or more.
        bits: 1, 2, 4 or 8.

    >>> pack_rows(np.array([[1, 2, 3]]), 4)
    array([[33,  3]], dtype=uint8)
    """
    each = 8 // bits
    made = np.zeros((*codes.shape[:-1], -(-codes.shape[-1] // each)), np.uint8)
    for at in range(each):
        part = codes[..., at::each].astype(np.uint8)
        made[..., : part.shape[-1]] |= part << np.uint8(bits * at)
    return made


def unpack_rows(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The codes in bytes; as many along the last axis as these hold.

    >>> unpack_rows(np.array([33, 3], dtype=np.uint8), 4)
    array([1, 2, 3, 0], dtype=uint8)
    """
    each = 8 // bits
    mask = np.uint8((1 << bits) - 1)
    parts = [(values >> np.uint8(bits * at)) & mask for at in range(each)]
    made: NDArray[np.uint8] = np.stack(parts, -1).reshape(*values.shape[:-1], -1)
    return made
