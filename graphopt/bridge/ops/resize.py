"""Resize, axis by axis: each output place is a weighted sum of a few input places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphopt.bridge.ops.arguments import dims, positive, spread
from graphopt.bridge.ops.table import op

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Rule:
    """How places of the output become places of the input, and what is read there."""

    coordinates: str
    mode: str
    nearest: str
    cubic: float
    antialias: bool
    exclude_outside: bool
    extrapolation: float = 0.0


@op("Resize", 11, 13, 18, 19, host=(1, 2, 3))
def resize(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """Resize-19."""
    named = [positive(axis, x.dim()) for axis in (axes if axes else range(x.dim()))]
    factors, wanted = _targets(x, named, scales, sizes, keep_aspect_ratio_policy)
    cropped = coordinate_transformation_mode == "tf_crop_and_resize" and roi is not None
    corners = [float(v) for v in roi.tolist()] if cropped and roi is not None else []
    rule = _Rule(
        coordinate_transformation_mode,
        mode,
        nearest_mode,
        cubic_coeff_a,
        bool(antialias),
        bool(exclude_outside),
        extrapolation_value,
    )
    for i, axis in enumerate(named):
        window = (corners[i], corners[len(named) + i]) if corners else (0.0, 1.0)
        x = _along(x, axis, factors[i], wanted[i], rule, window)
    return x


@op("Resize", 10, host=(1,))
def resize_10(x: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    """Resize-10: places are divided by the scale, and rounded down."""
    return _upsampled(x, scales.tolist(), mode)


@op("Upsample", 9, 10, host=(1,))
def upsample(x: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    """Upsample-9."""
    return _upsampled(x, scales.tolist(), mode)


@op("Upsample", 7)
def upsample_7(x: Tensor, *, scales: Sequence[float], mode: str = "nearest") -> Tensor:
    """Upsample-7: scales as an attribute."""
    return _upsampled(x, scales, mode)


def _upsampled(x: Tensor, scales: Sequence[float], mode: str) -> Tensor:
    rule = _Rule("asymmetric", mode, "floor", -0.75, False, False)
    for axis, factor in enumerate(scales):
        x = _along(x, axis, factor, math.floor(x.shape[axis] * factor), rule, (0.0, 1.0))
    return x


def _targets(
    x: Tensor, axes: list[int], scales: Tensor | None, sizes: Tensor | None, policy: str
) -> tuple[list[float], list[int]]:
    """Scale and size of each named axis."""
    lengths = [x.shape[axis] for axis in axes]
    if sizes is None or sizes.numel() == 0:
        if scales is None:
            raise ValueError("neither scales nor sizes are given")
        factors = [float(factor) for factor in scales.tolist()]
        return factors, [math.floor(n * f) for n, f in zip(lengths, factors, strict=True)]
    wanted = dims(sizes)
    factors = [size / length for size, length in zip(wanted, lengths, strict=True)]
    if policy == "stretch":
        return factors, wanted
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [factor] * len(axes), [int(factor * length + 0.5) for length in lengths]


def _along(
    x: Tensor, axis: int, factor: float, size: int, rule: _Rule, window: tuple[float, float]
) -> Tensor:
    """``x`` resized along one axis."""
    if factor == 1.0 and size == x.shape[axis] and window == (0.0, 1.0):
        return x
    places, weights, outside = _taps(x.shape[axis], size, factor, rule, window)
    if weights is None:
        y = x.index_select(axis, torch.from_numpy(places[:, 0]).to(x.device))
    else:
        y = torch.zeros((), dtype=x.dtype, device=x.device)
        for tap in range(places.shape[1]):
            picked = x.index_select(axis, torch.from_numpy(places[:, tap]).to(x.device))
            share = torch.from_numpy(weights[:, tap]).to(x.device, x.dtype)
            y = y + picked * spread(share, axis, x.dim())
    if outside.any():
        mask = spread(torch.from_numpy(outside).to(x.device), axis, x.dim())
        y = torch.where(mask, torch.full_like(y, rule.extrapolation), y)
    return y


@lru_cache(maxsize=256)
def _taps(
    length: int, size: int, factor: float, rule: _Rule, window: tuple[float, float]
) -> tuple[NDArray[np.int64], _Floats | None, NDArray[np.bool_]]:
    """For each output place: the input places ``(size, taps)``, their weights, whether outside.

    Without weights each place takes one element as it is.
    """
    source = _source(length, size, factor, rule.coordinates, window)
    outside = np.zeros(size, bool)
    if rule.coordinates == "tf_crop_and_resize":
        outside = (source < 0) | (source > length - 1)
    if rule.mode == "nearest":
        return _rounded(source, rule.nearest, length)[:, None], None, outside
    places, weights = _kernel(source, min(factor, 1.0) if rule.antialias else 1.0, rule)
    if rule.exclude_outside:
        weights = np.where((places < 0) | (places >= length), 0.0, weights)
        weights = weights / weights.sum(1, keepdims=True)
    return places.clip(0, length - 1), weights, outside


def _source(
    length: int, size: int, factor: float, coordinates: str, window: tuple[float, float]
) -> _Floats:
    """Where in the input each output place lies."""
    places = np.arange(size, dtype=np.float64)
    whole = factor * length
    if coordinates == "align_corners":
        return np.zeros(size) if whole == 1 else places * (length - 1) / (whole - 1)
    if coordinates == "asymmetric":
        return places / factor
    if coordinates == "tf_crop_and_resize":
        start, end = window
        if whole == 1:
            return np.full(size, (start + end) * (length - 1) / 2)
        return start * (length - 1) + places * (end - start) * (length - 1) / (whole - 1)
    if coordinates == "pytorch_half_pixel" and size == 1:
        return np.full(size, -0.5)
    centred = (places + 0.5) / factor - 0.5
    if coordinates == "half_pixel_symmetric":
        return centred + length / 2 * (1 - size / whole)
    return centred


def _rounded(source: _Floats, nearest: str, length: int) -> NDArray[np.int64]:
    if nearest == "floor":
        found = np.floor(source)
    elif nearest == "ceil":
        found = np.ceil(source)
    elif nearest == "round_prefer_ceil":
        found = np.floor(source + 0.5)
    else:
        found = np.ceil(source - 0.5)
    return found.clip(0, length - 1).astype(np.int64)


def _kernel(source: _Floats, shrink: float, rule: _Rule) -> tuple[NDArray[np.int64], _Floats]:
    """Places and weights of the interpolation, its kernel widened where it has to smooth."""
    reach = 1 if rule.mode == "linear" else 2
    first = math.floor(-reach / shrink) + 1
    steps = np.arange(first, 2 - first)
    places = np.floor(source).astype(np.int64)[:, None] + steps
    distance = np.abs(source[:, None] - places) * shrink
    if rule.mode == "linear":
        weights = np.clip(1 - distance, 0, 1)
    else:
        a = rule.cubic
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((distance - 5) * distance + 8) * distance * a - 4 * a
        weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    return places, weights / weights.sum(1, keepdims=True)
