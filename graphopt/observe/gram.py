"""The Gram matrix of what a layer reads: the Hessian of its squared output error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.graph.tensors import Array
from graphopt.observe.layer_input import LayerInput
from graphopt.observe.request import Folder, Rows, not_finite
from graphopt.observe.taps import Tap, Whole

__all__ = ["Gram"]

_SLICE_BYTES = 1 << 24
_COPIES = 4
"""Of a slice of rows: as float32, as float64, by group, and once more inside BLAS."""
_FLOAT_BYTES = 4
_DOUBLE_BYTES = 8


@dataclass(frozen=True)
class Gram(LayerInput[NDArray[np.float64]]):
    """``X^T X`` over all rows ``X`` that a layer multiplies with its weight, summed in float64.

    Of MatMul and Gemm ``(in, in)``. Of Conv ``(groups, in / groups * prod(kernel), same)``: a row
    is what a group reads at one position, in the order of the weight ``(out, in / groups,
    *kernel)``. The tensor is copied out of each run and folded in slices of rows.

    Source: Frantar and Alistarh 2022, Optimal Brain Compression, section 4 (``H = 2 X X^T``).
    """

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[NDArray[np.float64]]:
        return _Gram(self, shape)

    def bytes(self, shape: tuple[int, ...]) -> int:
        groups, width = self.blocks(shape)
        answer = groups * width * width * _DOUBLE_BYTES
        row = groups * width * _DOUBLE_BYTES
        taken = 2 * answer + _COPIES * max(row, min(_SLICE_BYTES, _row_count(self, shape) * row))
        if self.window is not None:
            taken += shape[1] * math.prod(self.window.worked_on(shape[2:])) * _FLOAT_BYTES
        return taken


def _row_count(request: Gram, shape: tuple[int, ...]) -> int:
    """About how many rows one sample has."""
    if request.window is not None:
        return math.prod(shape[2:])
    return math.prod(shape) // max(shape[request.axis], 1)


class _Gram(Folder[NDArray[np.float64]]):
    def __init__(self, request: Gram, shape: tuple[int, ...]) -> None:
        self.request = request
        self.whole = Whole(request.tensor)
        self.taps = (self.whole,)
        groups, width = request.blocks(shape)
        self.sums: NDArray[np.float64] = np.zeros((groups, width, width))
        self.most = max(1, _SLICE_BYTES // max(groups * width * _DOUBLE_BYTES, 1))

    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        values = self.request.without_filling(arrays[self.whole], rows)
        if not np.isfinite(values).all():
            raise not_finite(self.request.tensor, "NaN or infinite values")
        groups, width = self.request.blocks(values.shape)
        self.request.same_width((groups, width), (len(self.sums), self.sums.shape[1]))
        for part in self._rows(values):
            blocks = part.reshape(len(part), groups, width)
            self.sums += blocks.transpose(1, 2, 0) @ blocks.transpose(1, 0, 2)

    def _rows(self, values: Array) -> Iterator[NDArray[np.float64]]:
        """All rows in slices, the groups side by side."""
        request = self.request
        if request.window is not None:
            for image in values:
                yield from request.window.columns(image, self.most)
            return
        flat = np.moveaxis(values, request.axis, -1).reshape(-1, values.shape[request.axis])
        for start in range(0, len(flat), self.most):
            yield flat[start : start + self.most].astype(np.float64)

    def result(self) -> NDArray[np.float64]:
        return self.sums if self.request.window is not None else self.sums[0]
