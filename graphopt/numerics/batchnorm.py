"""Batch normalization at inference as one multiplication and one addition a channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["scale_channels", "scale_shift"]


def scale_shift(
    gamma: NDArray[Any], beta: NDArray[Any], mean: NDArray[Any], var: NDArray[Any], epsilon: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(k, s)`` so that ``gamma * (x - mean) / sqrt(var + epsilon) + beta = k * x + s``.

    Args:
        gamma: Scale ``(channels,)``, any float type; so are the next three.
        beta: Offset.
        mean: Running mean.
        var: Running variance, not negative.
        epsilon: Added to the variance.

    A variance of ``-epsilon`` or less gives values that are not finite; the caller checks.
    Source: Ioffe and Szegedy 2015, Batch Normalization, algorithm 2.

    >>> k, s = scale_shift(np.ones(1), np.zeros(1), np.array([2.0]), np.array([4.0]), 0.0)
    >>> float(k[0]), float(s[0])
    (0.5, -1.0)
    """
    with np.errstate(all="ignore"):
        factor = gamma.astype(np.float64) / np.sqrt(var.astype(np.float64) + epsilon)
        return factor, beta.astype(np.float64) - mean.astype(np.float64) * factor


def scale_channels(
    weight: NDArray[Any], axis: int, factors: NDArray[np.float64], groups: int = 1
) -> NDArray[np.float64]:
    """``weight`` with each slice along ``axis`` times its factor, in double.

    With groups, axis 0 holds one block a group and ``axis`` counts within a group, as the input
    channels of a grouped Conv ``(out, in / groups, kh, kw)`` and the output channels of a grouped
    ConvTranspose ``(in, out / groups, kh, kw)`` do.

    Args:
        weight: Any shape whose axis 0 divides into ``groups``.
        axis: Axis of the channels; not 0 if ``groups`` is more than 1.
        factors: ``(groups * weight.shape[axis],)``.
        groups: Number of groups.

    >>> scale_channels(np.ones((2, 1)), 1, np.array([2.0, 3.0]), groups=2)
    array([[2.],
           [3.]])
    """
    blocks = weight.reshape(groups, -1, *weight.shape[1:])
    shape = [groups, *[1] * weight.ndim]
    shape[axis + 1] = -1
    scaled: NDArray[np.float64] = blocks * factors.reshape(shape)
    return scaled.reshape(weight.shape)
