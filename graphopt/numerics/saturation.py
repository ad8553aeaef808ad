"""Where 8-bit kernels overflow 16 bits, and the least change of scale that prevents it.

Kernels on VPMADDUBSW (x86 with AVX2 or AVX-512BW but without VNNI) multiply unsigned activation
codes with signed weight codes and add the products two by two in a saturating int16. Pairs are the
elements ``2i`` and ``2i + 1`` along the axis of the sum; an odd last element is alone. A Conv walks
its kernel as ``(kh, kw, in)``, channel fastest, so that with an odd number of channels a pair
straddles two kernel positions; each group of a grouped Conv is walked by itself. Depthwise kernels
do not add in pairs and are safe. Source: Intel SDM, PMADDUBSW; measured on onnxruntime 1.32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphopt.numerics import grids

__all__ = ["MAX_CODE", "conv_matrix", "pair_sums", "raise_factors", "unsafe_channels"]

MAX_CODE = 255
"""Largest code of a uint8 activation."""

_HIGHEST, _LOWEST = 32767, -32768


def conv_matrix(weight: NDArray[Any]) -> NDArray[Any]:
    """A Conv weight as its integer kernel walks it.

    Args:
        weight: ``(out, in, k1, ..., kn)``, ``in`` of one group.

    Returns:
        ``(k1 * ... * kn * in, out)``, of the same dtype.

    >>> conv_matrix(np.arange(8).reshape(1, 2, 2, 2))[:, 0]
    array([0, 4, 1, 5, 2, 6, 3, 7])
    """
    return np.moveaxis(weight, 1, -1).reshape(len(weight), -1).T


def pair_sums(
    codes: NDArray[Any], max_code: ArrayLike = MAX_CODE
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Largest and smallest sum that each pair of products can reach.

    ``highest = a1 max(0, w1) + a2 max(0, w2)`` and ``lowest = a1 min(0, w1) + a2 min(0, w2)``, with
    the activation codes ``a`` anywhere between 0 and ``max_code``.

    Args:
        codes: Weight codes ``(..., K, out)``, any integer dtype.
        max_code: Largest activation code (as stored, zero point not subtracted): one for all, or
            ``(K,)``.

    Returns:
        Two arrays ``(..., ceil(K / 2), out)``.

    >>> pair_sums(np.array([[100], [28], [-5]]))[0].ravel()
    array([32640,     0])
    """
    reach = np.asarray(max_code, dtype=np.int64)
    products = codes.astype(np.int64) * (reach[:, None] if reach.ndim else reach)
    return _add_pairs(np.maximum(products, 0)), _add_pairs(np.minimum(products, 0))


def _add_pairs(products: NDArray[np.int64]) -> NDArray[np.int64]:
    sums: NDArray[np.int64] = products[..., 0::2, :].copy()
    second = products[..., 1::2, :]
    sums[..., : second.shape[-2], :] += second
    return sums


def unsafe_channels(codes: NDArray[Any], max_code: ArrayLike = MAX_CODE) -> NDArray[np.bool_]:
    """Output channels in which some pair can overflow.

    With ``max_code`` 255 a channel is safe exactly if each pair has
    ``max(0, w1) + max(0, w2) <= 128`` and the same for ``-w``.

    Args:
        codes: Weight codes ``(..., K, out)``.
        max_code: As in ``pair_sums``.

    Returns:
        ``(out,)``.

    >>> unsafe_channels(np.array([[64, 65, -65], [64, 64, 127]]))
    array([False,  True, False])
    """
    highest, lowest = pair_sums(codes, max_code)
    unsafe = (highest > _HIGHEST) | (lowest < _LOWEST)
    found: NDArray[np.bool_] = np.logical_or.reduce(unsafe.reshape(-1, unsafe.shape[-1]), axis=0)
    return found


def raise_factors(
    values: NDArray[Any],
    scales: ArrayLike,
    max_code: ArrayLike = MAX_CODE,
    qmax: int = 127,
) -> NDArray[np.float32]:
    """Smallest factors by which scales must rise so that no pair overflows after rounding anew.

    A code ``clip(round(w / scale))`` never grows in size as its scale rises, so each unsafe pair
    has one threshold, found by bisection over the float32 numbers themselves; the channel needs
    the largest of its thresholds, and whatever is above it is safe too.

    Args:
        values: Float weight ``(..., K, out)``.
        scales: Scales of symmetric grids, ``(out,)`` or one for all.
        max_code: As in ``pair_sums``.
        qmax: Largest weight code.

    Returns:
        ``(out,)`` at least 1; the float32 product ``scales * factors`` is safe.

    >>> raise_factors(np.array([[1.27, 0.1], [1.27, 0.1]]), np.float32(0.01))
    array([1.9689921, 1.       ], dtype=float32)
    """
    weights = np.asarray(values, dtype=np.float32)
    channels = weights.shape[-1]
    start = np.broadcast_to(np.asarray(scales, dtype=np.float32), (channels,))
    first, second, reach, channel = _unsafe_pairs(weights, start, max_code, qmax)
    needed = start.copy()
    if len(channel):
        thresholds = _thresholds(np.stack([first, second]), reach, start[channel], qmax)
        np.maximum.at(needed, channel, thresholds)
    factors: NDArray[np.float32] = needed / start
    while (short := start * factors < needed).any():
        factors[short] = np.nextafter(factors[short], np.float32(np.inf))
    return factors


def _unsafe_pairs(
    weights: NDArray[np.float32], scales: NDArray[np.float32], max_code: ArrayLike, qmax: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.intp]]:
    """The pairs that can overflow: both weights, both largest codes ``(2, n)``, and the channel."""
    codes = grids.quantize(weights, scales, 0, -qmax, qmax, axis=weights.ndim - 1)
    highest, lowest = pair_sums(codes, max_code)
    where = np.nonzero((highest > _HIGHEST) | (lowest < _LOWEST))
    *leading, pair, channel = where
    largest = np.broadcast_to(np.asarray(max_code, dtype=np.int64), (weights.shape[-2],))
    even, odd = 2 * pair, np.minimum(2 * pair + 1, weights.shape[-2] - 1)
    alone = even == odd
    first = weights[(*leading, even, channel)]
    second = np.where(alone, np.float32(0), weights[(*leading, odd, channel)])
    return first, second, np.stack([largest[even], largest[odd]]), channel


def _thresholds(
    pairs: NDArray[np.float32],
    reach: NDArray[np.int64],
    unsafe: NDArray[np.float32],
    qmax: int,
) -> NDArray[np.float32]:
    """Smallest float32 scale at which each pair ``(2, n)`` is safe, above one where it is not."""
    low = unsafe.view(np.int32)  # positive floats are ordered like their bit patterns
    high = np.abs(pairs).max(axis=0).view(np.int32)  # the larger code is 1 there
    low, high = low.astype(np.int64), high.astype(np.int64)
    while (high - low > 1).any():
        middle = (low + high) // 2
        scale = middle.astype(np.int32).view(np.float32)
        codes = grids.quantize(pairs, scale, 0, -qmax, qmax, axis=1)
        products = codes * reach
        safe = (np.maximum(products, 0).sum(axis=0) <= _HIGHEST) & (
            np.minimum(products, 0).sum(axis=0) >= _LOWEST
        )
        high, low = np.where(safe, middle, high), np.where(safe, low, middle)
    thresholds: NDArray[np.float32] = high.astype(np.int32).view(np.float32)
    return thresholds
