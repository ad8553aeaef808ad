"""What a convolution reads at each of its positions, as rows of a matrix (im2col)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["AutoPad", "Window"]

AutoPad = Literal["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]


@dataclass(frozen=True)
class Window:
    """How a convolution of any number of spatial axes moves over its input (ONNX Conv-11).

    Attributes:
        kernel: Size along each spatial axis.
        strides: Distance of two positions; empty for 1 everywhere.
        pads: Zeros in front of each axis, then those behind each; empty for none.
        dilations: Distance of two values of one position; empty for 1 everywhere.
        auto_pad: Where the padding follows from the sizes, and ``pads`` does not count.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    auto_pad: AutoPad = "NOTSET"

    def padding(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Zeros in front of and behind each spatial axis of these sizes."""
        rank = len(self.kernel)
        if self.auto_pad == "VALID":
            return [(0, 0)] * rank
        if self.auto_pad == "NOTSET":
            pads = self.pads or (0,) * (2 * rank)
            return list(zip(pads[:rank], pads[rank:], strict=True))
        padding = []
        for size, stride, span in zip(sizes, self._strides(), self._spans(), strict=True):
            total = max((-(-size // stride) - 1) * stride + span - size, 0)
            small, large = total // 2, total - total // 2
            padding.append((small, large) if self.auto_pad == "SAME_UPPER" else (large, small))
        return padding

    def columns(
        self, image: NDArray[Any], most: int | None = None
    ) -> Iterator[NDArray[np.float64]]:
        """What each position reads, position after position in row-major order.

        >>> window = Window((2,), strides=(2,))
        >>> next(window.columns(np.array([[1, 2, 3, 4, 5]]))).tolist()
        [[[1.0, 2.0]], [[3.0, 4.0]]]

        Args:
            image: One sample ``(channels, *sizes)``.
            most: Positions in one slice; None for all.

        Yields:
            ``(positions, channels, prod(kernel))``, at most ``most`` positions at a time.
        """
        padded = np.pad(image, [(0, 0), *self.padding(image.shape[1:])])
        spans = self._spans()
        if any(size < span for size, span in zip(padded.shape[1:], spans, strict=True)):
            return
        axes = tuple(range(1, padded.ndim))
        view = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=axes)
        steps = (1, *self._strides(), *(self.dilations or (1,) * len(spans)))
        view = view[tuple(slice(None, None, step) for step in steps)]
        view = np.moveaxis(view, 0, len(spans))
        sizes = view.shape[: len(spans)]
        count = math.prod(sizes)
        for start in range(0, count, most or max(count, 1)):
            stop = min(start + (most or count), count)
            values = view[np.unravel_index(np.arange(start, stop), sizes)]
            yield values.reshape(stop - start, len(image), -1).astype(np.float64)

    def positions(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """How many positions there are along each spatial axis of these sizes."""
        padding = self.padding(sizes)
        along = zip(sizes, padding, self._strides(), self._spans(), strict=True)
        return tuple(
            max((size + sum(pads) - span) // stride + 1, 0) for size, pads, stride, span in along
        )

    def worked_on(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Sizes of the input with what is put around."""
        padding = self.padding(sizes)
        return tuple(size + sum(pads) for size, pads in zip(sizes, padding, strict=True))

    def at(self, images: NDArray[np.float32], chosen: NDArray[np.intp]) -> NDArray[np.float32]:
        """What chosen positions read.

        >>> window = Window((2,), strides=(2,))
        >>> images = np.array([[[1, 2, 3, 4]], [[5, 6, 7, 8]]], np.float32)
        >>> window.at(images, np.array([1, 2])).tolist()
        [[[3.0, 4.0]], [[5.0, 6.0]]]

        Args:
            images: ``(batch, channels, *sizes)``.
            chosen: Numbers of positions, row-major over the batch and the positions of an image.

        Returns:
            ``(chosen, channels, prod(kernel))``.
        """
        sizes = images.shape[2:]
        if not len(chosen):
            return np.zeros((0, images.shape[1], math.prod(self.kernel)), np.float32)
        padded = np.pad(images, [(0, 0), (0, 0), *self.padding(sizes)])
        batch, channels, *wide = padded.shape
        values = np.moveaxis(padded, 1, -1).reshape(-1, channels)
        image, *places = np.unravel_index(chosen, (batch, *self.positions(sizes)))
        starts = [place * step for place, step in zip(places, self._strides(), strict=True)]
        dilations = self.dilations or (1,) * len(self.kernel)
        taps = np.indices(self.kernel).reshape(len(self.kernel), -1)
        first = np.ravel_multi_index((image, *starts), (batch, *wide))
        steps = [math.prod(wide[axis + 1 :]) for axis in range(len(wide))]
        offsets = np.array(dilations) * np.array(steps) @ taps
        read: NDArray[np.float32] = values[(first[:, None] + offsets).reshape(-1)]
        return read.reshape(len(chosen), -1, channels).transpose(0, 2, 1)

    def _strides(self) -> tuple[int, ...]:
        return self.strides or (1,) * len(self.kernel)

    def _spans(self) -> tuple[int, ...]:
        """From the first to the last value of a position, along each axis."""
        dilations = self.dilations or (1,) * len(self.kernel)
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, dilations, strict=True))
