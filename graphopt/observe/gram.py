"""The Gram matrix of what a layer reads: the Hessian of its squared output error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.facts.layers import Layer, Refusal
from graphopt.graph.node import attribute, is_op
from graphopt.graph.tensors import Array
from graphopt.numerics.im2col import Window
from graphopt.observe.request import Folder, Request, Rows, not_finite
from graphopt.observe.taps import Tap, Whole

__all__ = ["Gram"]

_SLICE_BYTES = 1 << 24
_COPIES = 4
"""Of a slice of rows: as float32, as float64, by group, and once more inside BLAS."""
_FLOAT_BYTES = 4
_DOUBLE_BYTES = 8


@dataclass(frozen=True)
class Gram(Request[NDArray[np.float64]]):
    """``X^T X`` over all rows ``X`` that a layer multiplies with its weight, summed in float64.

    Of MatMul and Gemm ``(in, in)``. Of Conv ``(groups, in / groups * prod(kernel), same)``: a row
    is what a group reads at one position, in the order of the weight ``(out, in / groups,
    *kernel)``. The tensor is copied out of each run and folded in slices of rows.

    Source: Frantar and Alistarh 2022, Optimal Brain Compression, section 4 (``H = 2 X X^T``).

    Attributes:
        axis: Of the input channels, for MatMul and Gemm.
        groups: Of the Conv.
        window: How the Conv moves; None for MatMul and Gemm.
    """

    axis: int = -1
    groups: int = 1
    window: Window | None = None

    @classmethod
    def of(cls, layer: Layer) -> Gram | Refusal:
        """The request for what ``layer`` reads; a refusal unless it is a Conv, MatMul or Gemm."""
        node = layer.node
        if is_op(node, "Conv"):
            kernel = tuple(attribute(node, "kernel_shape", ())) or layer.weight.constant.shape[2:]
            window = Window(
                tuple(kernel),
                tuple(attribute(node, "strides", ())),
                tuple(attribute(node, "pads", ())),
                tuple(attribute(node, "dilations", ())),
                attribute(node, "auto_pad", "NOTSET"),
            )
            return cls(layer.data, groups=layer.groups, window=window)
        left = layer.data_index == 0
        if is_op(node, "MatMul"):
            return cls(layer.data, axis=-1 if left else -2)
        if is_op(node, "Gemm"):
            turned = bool(attribute(node, "transA" if left else "transB", 0))
            return cls(layer.data, axis=-1 if left != turned else -2)
        return Refusal(node, f"no Gram matrix is known of what a {node.op_type} reads")

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[NDArray[np.float64]]:
        return _Gram(self, shape)

    def bytes(self, shape: tuple[int, ...]) -> int:
        groups, width = self.blocks(shape)
        answer = groups * width * width * _DOUBLE_BYTES
        row = groups * width * _DOUBLE_BYTES
        taken = 2 * answer + _COPIES * max(row, min(_SLICE_BYTES, _row_count(self, shape) * row))
        if self.window is not None:
            sizes = zip(shape[2:], self.window.padding(shape[2:]), strict=True)
            taken += shape[1] * math.prod(size + sum(pads) for size, pads in sizes) * _FLOAT_BYTES
        return taken

    def blocks(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """How many matrices there are, and their size.

        Raises:
            DataError: A tensor of this shape is no input of such a layer.
        """
        if self.window is None:
            return 1, shape[self.axis_of(shape, self.axis)]
        rank = 2 + len(self.window.kernel)
        if len(shape) != rank or shape[1] % self.groups:
            raise DataError(
                f"tensor {self.tensor!r} of shape {list(shape)} is no input of a Conv with a "
                f"{len(self.window.kernel)}-d kernel and {self.groups} groups"
            )
        return self.groups, shape[1] // self.groups * math.prod(self.window.kernel)


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
        values = self._real(arrays[self.whole], rows)
        if not np.isfinite(values).all():
            raise not_finite(self.request.tensor, "NaN or infinite values")
        groups, width = self.request.blocks(values.shape)
        if (groups, width) != self.sums.shape[:2]:
            raise DataError(
                f"what reads tensor {self.request.tensor!r} has rows of {self.sums.shape[1]} "
                f"values on one sample and of {width} on another"
            )
        for part in self._rows(values):
            blocks = part.reshape(len(part), groups, width)
            self.sums += blocks.transpose(1, 2, 0) @ blocks.transpose(1, 0, 2)

    def _real(self, values: Array, rows: Rows) -> Array:
        """The tensor without what only fills up the feed."""
        request = self.request
        if request.window is None and request.axis_of(values.shape, request.axis) == 0:
            return values if rows.count(1, None) else values[:, :0]
        return values[: rows.count(len(values), len(values))]

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
