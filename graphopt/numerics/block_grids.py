"""Grids of a weight, one for each block of neighbours: scales and zero points, then codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.grids import SMALLEST_SCALE, CodeType

__all__ = ["BlockGrid", "block_grid", "half_holds", "repeat_blocks"]

Singles = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]

_SHRINKS: dict[int, NDArray[np.float32]] = {
    8: np.linspace(1.0, 0.8, 21, dtype=np.float32),
    4: np.linspace(1.0, 0.5, 26, dtype=np.float32),
    2: np.linspace(1.0, 0.2, 41, dtype=np.float32),
}
_CHUNK = 1 << 18  # elements that are looked at together: they stay in the cache
_LEAST_HALF, _MOST_HALF = 2.0**-14, 65504.0


@dataclass(frozen=True)
class BlockGrid:
    """Codes of a weight ``W``, with ``W ~ (codes - zero_point) * scale``.

    Attributes:
        codes: Of the shape of the weight, int16.
        scale: Of its rank, one for each block, float32 above zero.
        zero_point: Of the shape of ``scale``, int16.
        block: How many neighbours along each axis share a scale; the last may be fewer.
    """

    codes: NDArray[np.int16]
    scale: Singles
    zero_point: NDArray[np.int16]
    block: tuple[int, ...]

    def values(self) -> Singles:
        """The floats that the codes stand for."""
        shape = self.codes.shape
        steps = self.codes - repeat_blocks(self.zero_point, self.block, shape)
        return np.asarray(steps * repeat_blocks(self.scale, self.block, shape), np.float32)


def repeat_blocks(values: NDArray[Any], block: Sequence[int], shape: Sequence[int]) -> NDArray[Any]:
    """What there is one of for each block, repeated for each element of a tensor of that shape.

    >>> repeat_blocks(np.array([[1], [2]]), (2, 3), (3, 3))[:, 0]
    array([1, 1, 2])
    """
    for axis, (many, size) in enumerate(zip(block, shape, strict=True)):
        values = np.repeat(values, many, axis).take(range(size), axis)
    return values


def half_holds(scale: Floats) -> bool:
    """Whether float16 holds scales with all of its 11 bits: none is subnormal, none too large."""
    return bool((scale >= _LEAST_HALF).all() and (scale <= _MOST_HALF).all())


def block_grid(
    values: Floats,
    block: Sequence[int],
    kind: CodeType,
    method: Literal["max", "mse"] = "mse",
    *,
    half: bool = False,
) -> BlockGrid:
    """Codes of a weight in blocks, each rounded to the nearest.

    Signed codes have zero point 0. ``max``: ``scale = max |w| / qmax`` of the block, codes
    ``-qmax .. qmax``. Unsigned codes cover the range of the block, 0 included:
    ``scale = (high - low) / qmax``, ``zero_point = round(-low / scale)``. ``mse``: the range times
    the factor up to 1 with the least squared error, and below 8 bits signed codes go down to
    ``qmin``. A block of zeros gets the least scale among the others.

    Args:
        values: The weight, finite.
        block: How many neighbours along each axis share a scale.
        kind: Of the codes.
        method: How the range of a block follows from its values.
        half: Scales are values of float16, where ``half_holds`` all; codes are of what is stored.

    Raises:
        ValueError: A weight is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("a weight is not finite")
    blocked, shape = _in_blocks(np.asarray(values, np.float32), block)
    scale = np.empty(len(blocked), np.float32)
    zero = np.zeros(len(blocked), np.int16)
    for part in _chunks(blocked):
        rows = blocked[part]
        if kind.qmin < 0:
            scale[part] = _symmetric(rows, kind, method)
        else:
            scale[part], zero[part] = _affine(rows, kind, method)
    alive = blocked.any(axis=1)
    scale[~alive] = scale[alive].min() if alive.any() else 1.0
    if half and half_holds(scale):
        scale = scale.astype(np.float16).astype(np.float32)
    codes = np.empty(blocked.shape, np.int16)
    qmin = _least_code(kind, method)
    for part in _chunks(blocked):
        steps = _divided(blocked[part], scale[part])
        codes[part] = np.clip(np.rint(steps) + zero[part, None], qmin, kind.qmax)
    return BlockGrid(
        _out_of_blocks(codes, shape, block, values.shape),
        scale.reshape(shape),
        zero.reshape(shape),
        tuple(block),
    )


def _least_code(kind: CodeType, method: Literal["max", "mse"]) -> int:
    """Eight bits and covering ranges use the same codes on both sides of zero."""
    return -kind.qmax if kind.qmin < 0 and (kind.bits >= 8 or method == "max") else kind.qmin


def _symmetric(rows: Singles, kind: CodeType, method: Literal["max", "mse"]) -> Singles:
    peaks = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64)
    widest: Singles = np.maximum((peaks / kind.qmax).astype(np.float32), SMALLEST_SCALE)
    if method == "max":
        return widest
    qmin, best = _least_code(kind, method), widest.copy()
    least = np.full(len(rows), np.inf, np.float32)
    for factor in _SHRINKS[kind.bits]:
        scale = np.maximum(widest * factor, SMALLEST_SCALE)
        error = _error(rows, scale, None, qmin, kind.qmax)
        better = error < least
        best[better], least[better] = scale[better], error[better]
    return best


def _affine(
    rows: Singles, kind: CodeType, method: Literal["max", "mse"]
) -> tuple[Singles, NDArray[np.int16]]:
    low = rows.min(axis=1, initial=0.0).astype(np.float64)
    high = rows.max(axis=1, initial=0.0).astype(np.float64)
    best = np.zeros(len(rows), np.float32)
    points = np.zeros(len(rows), np.int16)
    least = np.full(len(rows), np.inf, np.float32)
    for factor in _SHRINKS[kind.bits] if method == "mse" else [np.float32(1.0)]:
        scale = np.maximum(((high - low) * factor / kind.qmax).astype(np.float32), SMALLEST_SCALE)
        with np.errstate(over="ignore"):
            zero = np.clip(np.rint(-low * factor / scale), 0, kind.qmax).astype(np.int16)
        error = _error(rows, scale, zero, 0, kind.qmax)
        better = error < least
        best[better], points[better], least[better] = scale[better], zero[better], error[better]
    return best, points


def _error(
    rows: Singles, scale: Singles, zero: NDArray[np.int16] | None, qmin: int, qmax: int
) -> Singles:
    """Squared error of each row, in squares of its largest value so that none overflows."""
    steps = _divided(rows, scale)
    low = np.float32(qmin) if zero is None else (qmin - zero[:, None]).astype(np.float32)
    high = np.float32(qmax) if zero is None else (qmax - zero[:, None]).astype(np.float32)
    codes = np.clip(np.rint(steps), low, high)
    steps -= codes
    unit = scale / np.maximum(np.abs(rows).max(axis=1, initial=0.0), SMALLEST_SCALE)
    return np.asarray(np.einsum("rb,rb->r", steps, steps) * unit * unit, np.float32)


def _divided(rows: Singles, scale: Singles) -> Singles:
    with np.errstate(over="ignore"):  # what is beyond float32 is clipped all the same
        steps: Singles = np.clip(rows / scale[:, None], np.float32(-1e9), np.float32(1e9))
    return steps


def _chunks(rows: Singles) -> Iterator[slice]:
    step = max(1, _CHUNK // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        yield slice(start, start + step)


def _in_blocks(values: Singles, block: Sequence[int]) -> tuple[Singles, tuple[int, ...]]:
    """A block a row, short ones filled up with zeros, and how many blocks lie along each axis."""
    filling = [(0, -size % many) for size, many in zip(values.shape, block, strict=True)]
    if any(after for _, after in filling):
        values = np.pad(values, filling)
    counts = [size // many for size, many in zip(values.shape, block, strict=True)]
    split = [part for pair in zip(counts, block, strict=True) for part in pair]
    rank = len(counts)
    order = [*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)]
    rows = values.reshape(split).transpose(order).reshape(int(np.prod(counts)), -1)
    return np.ascontiguousarray(rows), tuple(counts)


def _out_of_blocks(
    rows: NDArray[np.int16], counts: Sequence[int], block: Sequence[int], shape: Sequence[int]
) -> NDArray[np.int16]:
    rank = len(counts)
    order = [at for axis in range(rank) for at in (axis, rank + axis)]
    whole = rows.reshape(*counts, *block).transpose(order)
    padded = whole.reshape([n * b for n, b in zip(counts, block, strict=True)])
    return np.ascontiguousarray(padded[tuple(slice(size) for size in shape)])
