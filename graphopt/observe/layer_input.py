"""What a layer multiplies with its weight, as a request that is asked of the tensor it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.facts.layers import Layer, Refusal
from graphopt.graph.node import attribute, is_op
from graphopt.numerics.im2col import Window
from graphopt.numerics.transposed_window import TransposedWindow
from graphopt.observe.request import Request, Rows

__all__ = ["LayerInput"]

A = TypeVar("A")


@dataclass(frozen=True)
class LayerInput(Request[A]):
    """A request for the rows that a layer reads.

    Of MatMul and Gemm a row is what lies along ``axis`` at one position, of a Conv what a group
    reads at one, in the order of the weight ``(out, in / groups, *kernel)``; of a ConvTranspose
    what an output is a sum of, in the order of its ``(in / groups, *kernel)``.

    Attributes:
        axis: Of the input channels, for MatMul and Gemm.
        groups: Of the Conv or ConvTranspose.
        window: How that moves; None for MatMul and Gemm.
    """

    axis: int = -1
    groups: int = 1
    window: Window | TransposedWindow | None = None

    @classmethod
    def of(cls, layer: Layer) -> Self | Refusal:
        """The request for what ``layer`` reads; a refusal unless it is a Conv, MatMul or Gemm."""
        node = layer.node
        if is_op(node, "Conv"):
            kernel = tuple(attribute(node, "kernel_shape", ())) or (layer.weight.shape or ())[2:]
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
        return Refusal(node, f"nobody knows which rows a {node.op_type} reads")

    @classmethod
    def summed(cls, layer: Layer) -> Self | Refusal:
        """The request for what each result of ``layer`` is a sum of, be it a ConvTranspose too."""
        node = layer.node
        if not is_op(node, "ConvTranspose"):
            return cls.of(layer)
        window = TransposedWindow(
            tuple(attribute(node, "kernel_shape", ())) or (layer.weight.shape or ())[2:],
            tuple(attribute(node, "strides", ())),
            tuple(attribute(node, "pads", ())),
            tuple(attribute(node, "dilations", ())),
            tuple(attribute(node, "output_padding", ())),
            tuple(attribute(node, "output_shape", ())),
            attribute(node, "auto_pad", "NOTSET"),
        )
        return cls(layer.data, groups=layer.groups, window=window)

    def blocks(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """How many groups read a tensor of this shape, and values in a row of one.

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

    def without_filling(self, values: NDArray[Any], rows: Rows) -> NDArray[Any]:
        """The tensor of one run without what only fills up the feed."""
        if self.window is None and self.axis_of(values.shape, self.axis) == 0:
            return values if rows.count(1, None) else values[:, :0]
        return values[: rows.count(len(values), len(values))]

    def same_width(self, blocks: tuple[int, int], so_far: tuple[int, int]) -> None:
        """Refuse rows whose width changes from one sample to another.

        Raises:
            DataError: It does.
        """
        if blocks != so_far:
            raise DataError(
                f"what reads tensor {self.tensor!r} has rows of {so_far[1]} values on one sample "
                f"and of {blocks[1]} on another"
            )
