"""Uniform quantization grids: scale and zero point from a range, values to codes and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CODE_TYPES",
    "SMALLEST_SCALE",
    "CodeName",
    "CodeType",
    "affine",
    "dequantize",
    "eight_bits",
    "quantize",
    "storage_dtype",
    "symmetric",
]

SMALLEST_SCALE = np.float32(np.finfo(np.float32).tiny)
"""Smallest normal float32: kernels flush what is below to zero."""

CodeName = Literal["int8", "uint8", "int4", "uint4", "int2", "uint2", "int16", "uint16"]


@dataclass(frozen=True)
class CodeType:
    """An integer type that codes are stored in.

    Attributes:
        dtype: How numpy, or ml_dtypes below eight bits, calls it.
        bits: Of one code.
        qmin: Smallest code.
        qmax: Largest code.
        opset: First version of ONNX whose QuantizeLinear gives it.
    """

    dtype: Any
    bits: int
    qmin: int
    qmax: int
    opset: int


CODE_TYPES: dict[CodeName, CodeType] = {
    "int8": CodeType(np.int8, 8, -128, 127, opset=10),
    "uint8": CodeType(np.uint8, 8, 0, 255, opset=10),
    "int4": CodeType(ml_dtypes.int4, 4, -8, 7, opset=21),
    "uint4": CodeType(ml_dtypes.uint4, 4, 0, 15, opset=21),
    "int2": CodeType(ml_dtypes.int2, 2, -2, 1, opset=25),
    "uint2": CodeType(ml_dtypes.uint2, 2, 0, 3, opset=25),
    "int16": CodeType(np.int16, 16, -(2**15), 2**15 - 1, opset=21),
    "uint16": CodeType(np.uint16, 16, 0, 2**16 - 1, opset=21),
}


def eight_bits(kind: CodeName) -> CodeName:
    """The codes of eight bits that are signed where these are.

    >>> eight_bits("uint4")
    'uint8'
    """
    return "int8" if CODE_TYPES[kind].qmin < 0 else "uint8"


_CODES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32)


def affine(low: float, high: float, qmin: int, qmax: int) -> tuple[np.float32, int]:
    """Scale and zero point of the grid that covers ``low .. high`` with the codes ``qmin .. qmax``.

    ``scale = (high - low) / (qmax - qmin)``, ``zero_point = round(qmin - low / scale)``.

    The range is widened first so that it holds 0, which then lies on the grid exactly. A range of
    zero width gets scale 1; one too narrow for float32 the smallest normal number.

    Raises:
        ValueError: An end is not finite, ``low > high``, or ``qmin >= qmax``.

    >>> affine(-1.0, 3.0, 0, 255)
    (np.float32(0.015686275), 64)
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"not a range: {low} .. {high}")
    if qmin >= qmax:
        raise ValueError(f"not a range of codes: {qmin} .. {qmax}")
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if low == high:
        return np.float32(1.0), min(max(0, qmin), qmax)
    scale = max(np.float32((high - low) / (qmax - qmin)), SMALLEST_SCALE)
    zero_point = round(qmin - low / float(scale))
    return scale, min(max(zero_point, qmin), qmax)


def symmetric(abs_max: float, qmax: int) -> np.float32:
    """Scale of the grid ``-qmax .. qmax`` whose zero point is 0: ``scale = abs_max / qmax``.

    An ``abs_max`` of 0 gets scale 1; one too small for float32 the smallest normal number.

    Raises:
        ValueError: ``abs_max`` is negative or not finite, or ``qmax < 1``.

    >>> symmetric(2.54, 127)
    np.float32(0.02)
    """
    if not (math.isfinite(abs_max) and abs_max >= 0):
        raise ValueError(f"not an absolute maximum: {abs_max}")
    if qmax < 1:
        raise ValueError(f"not a largest code: {qmax}")
    if abs_max == 0:
        return np.float32(1.0)
    return max(np.float32(float(abs_max) / qmax), SMALLEST_SCALE)


def storage_dtype(qmin: int, qmax: int) -> np.dtype[Any]:
    """Smallest integer dtype that holds the codes; signed where both would do.

    Raises:
        ValueError: The codes need more than 32 bits.

    >>> storage_dtype(0, 255)
    dtype('uint8')
    """
    for dtype in _CODES:
        info = np.iinfo(dtype)
        if info.min <= qmin and qmax <= info.max:
            return np.dtype(dtype)
    raise ValueError(f"codes {qmin} .. {qmax} need more than 32 bits")


def quantize(
    values: NDArray[Any],
    scale: ArrayLike,
    zero_point: ArrayLike,
    qmin: int,
    qmax: int,
    axis: int | None = None,
) -> NDArray[Any]:
    """Codes of ``values``: ``clip(round(x / scale) + zero_point, qmin, qmax)``, halves to even.

    The arithmetic of QuantizeLinear (ONNX opset 13): float32 up to 16-bit codes, and float64
    for wider ones, where float32 would lose bits.

    Args:
        values: Any shape, finite.
        scale: Scalar, or ``(channels,)`` along ``axis``.
        zero_point: Like ``scale``.
        qmin: Smallest code.
        qmax: Largest code.
        axis: Axis of the channels; None for one grid.

    Returns:
        Codes of the shape of ``values`` in the smallest dtype that holds ``qmin .. qmax``.

    Raises:
        ValueError: A value is not finite.

    >>> quantize(np.array([-1.0, 0.25, 9.0]), 0.5, 0, -4, 3)
    array([-2,  0,  3], dtype=int8)
    """
    if not np.isfinite(values).all():
        raise ValueError("values that are not finite have no code")
    dtype = storage_dtype(qmin, qmax)
    float_type = np.float32 if dtype.itemsize <= 2 else np.float64
    steps = _along(scale, values.ndim, axis).astype(float_type)
    offset = _along(zero_point, values.ndim, axis).astype(float_type)
    floats: NDArray[Any] = values.astype(float_type)
    with np.errstate(over="ignore"):  # a quotient beyond float32 is clipped all the same
        codes: NDArray[Any] = np.rint(floats / steps) + offset
    clipped: NDArray[Any] = np.clip(codes, qmin, qmax).astype(dtype)
    return clipped


def dequantize(
    codes: NDArray[Any], scale: ArrayLike, zero_point: ArrayLike, axis: int | None = None
) -> NDArray[np.float32]:
    """Values of codes: ``(q - zero_point) * scale`` in float32, arguments as in ``quantize``.

    >>> dequantize(np.array([0, 3], dtype=np.uint8), 0.5, 1)
    array([-0.5,  1. ], dtype=float32)
    """
    steps = _along(scale, codes.ndim, axis).astype(np.float32)
    offset = _along(zero_point, codes.ndim, axis).astype(np.int64)
    return ((codes.astype(np.int64) - offset).astype(np.float32) * steps).astype(np.float32)


def _along(numbers: ArrayLike, ndim: int, axis: int | None) -> NDArray[Any]:
    """A scalar as it is, a vector shaped to broadcast along ``axis``."""
    array = np.asarray(numbers)
    if axis is None or array.ndim == 0:
        return array
    shape = [1] * ndim
    shape[axis] = array.size
    return array.reshape(shape)
