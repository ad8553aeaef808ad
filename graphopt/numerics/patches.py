"""Parts of the maps of two convolutions in a row."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.im2col import Window

__all__ = ["Patches"]

Singles = NDArray[np.float32]

_EVEN = (0.7548776662466927, 0.5698402909980532)
"""Multiples of these, without their whole parts, fill a square evenly."""


class Patches:
    """A part of what two convolutions in a row give for each sample, and of what it reads for that.

    All are of one size; where they lie follows from the number of the sample, spread evenly.

    Args:
        one: How the first convolution moves.
        two: And the second.
        sizes: Of the images, ``(height, width)``.
        count: Samples.
        most: About how many positions of the result there are to be in all.
    """

    def __init__(
        self, one: Window, two: Window, sizes: tuple[int, ...], count: int, most: int
    ) -> None:
        between = one.positions(sizes)
        given = two.positions(between)
        side = max(1, math.isqrt(max(1, most // max(count, 1))))
        self._part = tuple(min(side, size) for size in given)
        turns = np.outer(np.arange(count) + 0.5, _EVEN) % 1
        self._corners = (turns * (np.array(given) - self._part + 1)).astype(int)
        between_part = _read_by(two, self._part)
        starts = self._corners * _steps(two) - _before(two, between)
        self._read_part = _read_by(one, between_part)
        self._read = starts * _steps(one) - _before(one, sizes)
        lines = [
            (at >= 0) & (at < size)
            for at, size in zip(_places(starts, between_part), between, strict=True)
        ]
        self.inside = lines[0][:, :, None] & lines[1][:, None, :]
        """Which positions between the two there are, ``(samples, height, width)``: others are zeros
        around."""

    def given(self, maps: Singles) -> Singles:
        """The part of the result ``(samples, channels, height, width)`` as ``(rows, channels)``."""
        found = _cropped(maps, self._corners, self._part)
        return found.reshape(-1, found.shape[-1])

    def read(self, images: Singles) -> Singles:
        """The part of the images: ``(samples, height, width, channels)``, zeros around them."""
        return _cropped(images, self._read, self._read_part)


def _steps(window: Window) -> NDArray[np.intp]:
    return np.array(window.strides or (1,) * len(window.kernel))


def _before(window: Window, sizes: tuple[int, ...]) -> NDArray[np.intp]:
    return np.array([before for before, _ in window.padding(sizes)])


def _read_by(window: Window, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """What so many neighbouring positions read."""
    dilations = window.dilations or (1,) * len(window.kernel)
    along = zip(sizes, _steps(window).tolist(), window.kernel, dilations, strict=True)
    return tuple((size - 1) * step + (k - 1) * d + 1 for size, step, k, d in along)


def _places(starts: NDArray[np.intp], sizes: tuple[int, ...]) -> list[NDArray[np.intp]]:
    """Positions along each axis: ``(samples, size)``."""
    return [start[:, None] + np.arange(size) for start, size in zip(starts.T, sizes, strict=True)]


def _cropped(maps: Singles, corners: NDArray[np.intp], sizes: tuple[int, ...]) -> Singles:
    """Parts ``(samples, height, width, channels)``, zero where they reach beyond the maps."""
    channels_last = maps.transpose(0, 2, 3, 1)
    rows, columns = _places(corners, sizes)
    high, wide = maps.shape[2:]
    at = np.arange(len(maps))[:, None, None]
    found = channels_last[
        at, rows.clip(0, high - 1)[:, :, None], columns.clip(0, wide - 1)[:, None, :]
    ]
    there = ((rows >= 0) & (rows < high))[:, :, None] & ((columns >= 0) & (columns < wide))[:, None]
    return np.ascontiguousarray(found * there[..., None])
