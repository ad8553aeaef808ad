"""Blocks of samples in exactly the dtype that the model takes; nothing is lost on the way."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from onnx import TensorProto

from graphopt.data.inputs import Input
from graphopt.errors import DataError
from graphopt.graph.tensors import Array

__all__ = ["convert"]


def convert(values: Array, wanted: Input, place: str, first: int) -> Array:
    """The block in the input's dtype.

    Floats become floats of any width as long as they stay finite; integers and booleans become
    integers that can hold every value; 0 and 1 become booleans. Integers never become floats:
    whether pixels are to be divided by 255 is not for a tool to guess.

    Args:
        values: Block of rows, or a whole array of rank 0.
        wanted: The input.
        place: Where the block comes from, for messages.
        first: Number of its first sample, for messages.

    Raises:
        DataError: Another kind of number, a value that does not fit, NaN or infinity.
    """
    if wanted.data_type == TensorProto.STRING:
        if values.dtype.kind not in "US":
            raise _mismatch(values, wanted, place, "give an array of strings")
        return values.astype(np.str_).astype(object)
    dtype = wanted.dtype
    if values.dtype.type is np.void and values.dtype.itemsize == dtype.itemsize:
        values = values.view(dtype)  # numpy saves the types of ml_dtypes as raw bytes
    if _is_float(dtype):
        return _to_float(values, wanted, place, first)
    if _is_float(values.dtype):
        raise _mismatch(values, wanted, place, f"convert with .astype({dtype.name!r})")
    return _to_integer(values, wanted, place, first)


def _to_float(values: Array, wanted: Input, place: str, first: int) -> Array:
    if not _is_float(values.dtype):
        hint = "convert as the model was trained, such as x.astype('float32') / 255 for pixels"
        raise _mismatch(values, wanted, place, hint)
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(f"{_where(wanted, bad, place, first)} holds NaN or infinity")
    if values.dtype == wanted.dtype:
        return values
    with np.errstate(over="ignore"):
        cast = values.astype(wanted.dtype)
    bad = ~np.isfinite(cast)
    if bad.any():
        raise DataError(f"{_where(wanted, bad, place, first)} is too large for {wanted.type_name}")
    return cast


def _to_integer(values: Array, wanted: Input, place: str, first: int) -> Array:
    dtype = wanted.dtype
    if values.dtype == dtype:
        return values
    if values.dtype.kind not in "iub":
        raise _mismatch(values, wanted, place, f"give {dtype.name}")
    if dtype.kind == "b":
        low, high = 0, 1
    else:
        bounds = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]  # has no types
        low, high = int(bounds.min), int(bounds.max)
    numbers = values.astype(np.uint8) if values.dtype.kind == "b" else values
    if numbers.size and (int(numbers.min()) < low or int(numbers.max()) > high):
        bad = np.array([not low <= int(number) <= high for number in numbers.flat])
        where = _where(wanted, bad.reshape(numbers.shape), place, first)
        raise DataError(f"{where} holds a value that {dtype.name} cannot ({low} to {high})")
    return values.astype(dtype)


def _is_float(dtype: np.dtype[np.generic]) -> bool:
    if dtype.kind == "f":
        return True
    try:  # the small floats of ml_dtypes have kind V
        ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]  # has no types
    except (ValueError, TypeError):
        return False
    return dtype.kind != "c"


def _mismatch(values: Array, wanted: Input, place: str, hint: str) -> DataError:
    return DataError(
        f"{place}: {wanted.name!r} holds {values.dtype.name} "
        f"where the model takes {wanted.type_name}; {hint}"
    )


def _where(wanted: Input, bad: Array, place: str, first: int) -> str:
    row = int(np.argwhere(bad)[0][0]) if bad.ndim else 0
    return f"{place}: sample {first + row} of {wanted.name!r}"
