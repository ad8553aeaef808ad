"""What each output of a transposed convolution is a sum of, as rows of a matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.im2col import AutoPad, Window

__all__ = ["TransposedWindow"]


@dataclass(frozen=True)
class TransposedWindow:
    """How a transposed convolution of any number of spatial axes spreads (ONNX ConvTranspose-11).

    It is a convolution over the input with ``stride - 1`` zeros between its values, the kernel
    turned round. Of the products of an output most are with such a zero: each phase of the stride
    reads other places of the kernel.

    Attributes:
        kernel: Size along each spatial axis.
        strides: Distance of what two inputs add to; empty for 1 everywhere.
        pads: Outputs cut off in front of each axis, then those behind each; empty for none.
        dilations: Distance of two outputs that one input adds to; empty for 1 everywhere.
        output_padding: Outputs behind each axis that would not be there; empty for none.
        output_shape: Size of the output, which ``pads`` then follow from; empty where they count.
        auto_pad: Where the padding follows from the sizes, and ``pads`` does not count.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    auto_pad: AutoPad = "NOTSET"

    def positions(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """How many outputs there are along each spatial axis of an input of these sizes."""
        spread = zip(self.worked_on(sizes), self.kernel, self._dilations, strict=True)
        return tuple(max(size - (k - 1) * d, 0) for size, k, d in spread)

    def worked_on(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Sizes of the input with all zeros between and around."""
        strides, around = self._strides, self._around(sizes)
        return tuple(
            max((size - 1) * stride + 1 + before + behind, 0)
            for size, stride, (before, behind) in zip(sizes, strides, around, strict=True)
        )

    def columns(
        self, image: NDArray[Any], most: int | None = None
    ) -> Iterator[NDArray[np.float64]]:
        """What each output reads, output after output in row-major order.

        >>> window = TransposedWindow((2,), strides=(2,))
        >>> next(window.columns(np.array([[3.0, 5.0]]))).tolist()
        [[[3.0, 0.0]], [[0.0, 3.0]], [[5.0, 0.0]], [[0.0, 5.0]]]

        Args:
            image: One sample ``(channels, *sizes)``.
            most: Outputs in one slice; None for all.

        Yields:
            ``(outputs, channels, prod(kernel))``, at most ``most`` outputs at a time.
        """
        for part in self._plain.columns(self._spread(image[None])[0], most):
            yield part[:, :, ::-1]

    def at(self, images: NDArray[np.float32], chosen: NDArray[np.intp]) -> NDArray[np.float32]:
        """What chosen outputs read.

        Args:
            images: ``(batch, channels, *sizes)``.
            chosen: Numbers of outputs, row-major over the batch and the positions of an image.

        Returns:
            ``(chosen, channels, prod(kernel))``.
        """
        return self._plain.at(self._spread(images), chosen)[:, :, ::-1]

    @property
    def _plain(self) -> Window:
        return Window(self.kernel, dilations=self._dilations)

    @property
    def _strides(self) -> tuple[int, ...]:
        return self.strides or (1,) * len(self.kernel)

    @property
    def _dilations(self) -> tuple[int, ...]:
        return self.dilations or (1,) * len(self.kernel)

    def _spread(self, images: NDArray[Any]) -> NDArray[Any]:
        """The images with zeros between and around their values, or cut where pads cut them."""
        sizes = images.shape[2:]
        strides, around = self._strides, self._around(sizes)
        wide = [(size - 1) * step + 1 for size, step in zip(sizes, strides, strict=True)]
        spread = np.zeros((*images.shape[:2], *wide), images.dtype)
        steps = (slice(None, None, step) for step in strides)
        spread[(slice(None), slice(None), *steps)] = images
        more = [(max(front, 0), max(end, 0)) for front, end in around]
        padded = np.pad(spread, [(0, 0), (0, 0), *more])
        cuts = zip(around, padded.shape[2:], strict=True)
        left = (slice(max(-front, 0), max(size + min(end, 0), 0)) for (front, end), size in cuts)
        return padded[(slice(None), slice(None), *left)]

    def _around(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Zeros in front of and behind each axis; negative where values are cut off."""
        rank = len(self.kernel)
        more = self.output_padding or (0,) * rank
        spans = [(k - 1) * d for k, d in zip(self.kernel, self._dilations, strict=True)]
        cuts = self._cuts(sizes, spans, more)
        return [
            (span - before, span - behind + extra)
            for span, (before, behind), extra in zip(spans, cuts, more, strict=True)
        ]

    def _cuts(
        self, sizes: Sequence[int], spans: Sequence[int], more: Sequence[int]
    ) -> list[tuple[int, int]]:
        rank = len(self.kernel)
        shape = self.output_shape
        if not shape and self.auto_pad in ("NOTSET", "VALID"):
            pads = self.pads if self.auto_pad == "NOTSET" and self.pads else (0,) * (2 * rank)
            return list(zip(pads[:rank], pads[rank:], strict=True))
        shape = shape[-rank:] or tuple(n * s for n, s in zip(sizes, self._strides, strict=True))
        cuts = []
        for size, step, span, extra, wanted in zip(
            sizes, self._strides, spans, more, shape, strict=True
        ):
            total = (size - 1) * step + extra + span + 1 - wanted
            half = max(total, 0) // 2  # where more is wanted, it is put behind
            front = half if self.auto_pad == "SAME_UPPER" else max(total, 0) - half
            cuts.append((front, total - front))
        return cuts
