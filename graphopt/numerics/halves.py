"""Floats of 16 bits: what they hold of values of float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["HALF_FORMATS", "HalfFormat", "HalfName", "fits"]

HalfName = Literal["float16", "bfloat16"]

_LOST = 2.0**-8
"""Relative error from which on rounding costs more than the shorter mantissa of bfloat16 does."""


@dataclass(frozen=True)
class HalfFormat:
    """A format of floats of 16 bits.

    Attributes:
        name: As numpy and ONNX call it.
        largest: Largest finite value.
        smallest: Smallest value with all bits of the mantissa; below it they are lost one by one.
    """

    name: HalfName
    largest: float
    smallest: float

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of arrays."""
        return np.dtype(np.float16 if self.name == "float16" else ml_dtypes.bfloat16)

    def rounded(self, values: NDArray[Any]) -> NDArray[Any]:
        """The nearest values of the format, ties to even; infinite beyond its range."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return values.astype(self.dtype)


HALF_FORMATS: dict[HalfName, HalfFormat] = {
    "float16": HalfFormat("float16", 65504.0, 2.0**-14),
    "bfloat16": HalfFormat("bfloat16", (2 - 2.0**-7) * 2.0**127, 2.0**-126),
}
"""IEEE 754 binary16, and the upper half of binary32."""


def fits(values: NDArray[np.float32], form: HalfFormat) -> str:
    """Why a format does not hold some values; empty where it does.

    It holds them where rounding leaves all finite ones finite, and costs no more than 1/256 of
    their norm. Infinite values stay what they are; an empty array fits.

    Args:
        values: Float32 of any shape.
        form: The format.

    >>> fits(np.array([1e-12], np.float32), HALF_FORMATS["float16"])
    'values as small as 1e-12 would be lost'
    >>> fits(np.array([0.0, 7e4], np.float32), HALF_FORMATS["float16"])
    'values up to 7e+04 lie beyond 65504'
    """
    known = values[np.isfinite(values)].astype(np.float64)
    if not known.size:
        return ""
    again = form.rounded(known.astype(np.float32)).astype(np.float64)
    if not np.isfinite(again).all():
        return f"values up to {np.abs(known).max():.3g} lie beyond {form.largest:.6g}"
    if np.linalg.norm(again - known) > _LOST * np.linalg.norm(known):
        small = np.abs(known[known != 0]).min()
        return f"values as small as {small:.3g} would be lost"
    return ""
