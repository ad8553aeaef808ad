"""A weight of floats put on the grid of a layer's codes, its scales chosen anew."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.families.refitting.blocks import blocks_of, from_blocks
from graphopt.families.refitting.codes import OnGrid, SolvableCodes
from graphopt.families.refitting.on_codebook import put_on_codebook
from graphopt.numerics import saturation
from graphopt.numerics.rounding import rounded
from graphopt.numerics.weight_grids import CodeGrid, chosen_scales
from graphopt.rewrite.integer_layers import kernel_matrix

__all__ = ["put_on_grid"]

Floats = NDArray[np.float64]

_WIDE = (0.82, 0.88, 0.94, 1.0, 1.06, 1.12)
"""Factors of the scales found by nearest rounding that are tried with rounding by data."""
_ABOVE = 1 + 1e-6
"""A threshold in float32 is rounded to another code in double."""
_MOST_BIAS = 2**30
"""Largest code of a bias of 32 bits, with room for what rounding adds to it."""


def put_on_grid(
    one: SolvableCodes,
    weight: Floats,
    covariance: Floats,
    bias: Floats,
    *,
    saturates: bool,
    mask: NDArray[np.bool_] | None = None,
) -> OnGrid:
    """Choose scales by what they cost the results, then round by what the layer reads.

    Of a codebook its centres are chosen as well.

    Args:
        one: The layer.
        weight: What is to be rounded, ``(groups, width, out)``.
        covariance: Of what it is multiplied with, ``(groups, width, width)``.
        bias: About what it will add, ``(groups, out)``: it has to fit into 32 bits.
        saturates: Whether the kernel adds up neighbouring products in 16 bits.
        mask: Which values of the weight may differ from zero; None for all.
    """
    coded, layer = one.coded, one.layer
    if coded.centres is not None:
        return put_on_codebook(one, weight, covariance, mask)
    places = blocks_of(layer, coded.places)
    zero = blocks_of(layer, coded.spread(coded.zero_point))
    low, high = coded.qmin - zero, coded.qmax - zero
    largest = _largest(one, weight, places)
    least = _least(one, bias, places, largest)
    whole = bool((places == places[:, :1]).all())
    if whole:
        low, high = low[:, :1], high[:, :1]

    def grid(scales: Floats) -> CodeGrid:
        single = scales.astype(np.float32).astype(np.float64) * layer.alpha
        return CodeGrid(single[places[:, :1] if whole else places], low, high)

    start = np.maximum(largest, least)
    scales = np.maximum(start * chosen_scales(weight, covariance, grid(start), places), least)
    raised = 0
    if saturates:
        scales, raised = _raised(one, weight, scales)
    own = whole and len(scales) == places.shape[0] * places.shape[2] and not saturates
    factors = _WIDE if own and coded.qmax - coded.qmin < 32 else (1.0,)
    found, which = rounded(weight, covariance, grid(scales), factors=factors, mask=mask)
    if own and len(factors) > 1:
        tried = scales[places[:, 0]] * np.asarray(factors)[which]
        scales[places[:, 0].ravel()] = np.maximum(tried, least[places[:, 0]]).ravel()
        found = grid(scales).nearest(found)
    if saturates:
        found = _without_overflow(one, weight, found, grid(scales), mask)
    stored = scales.astype(np.float32).reshape(coded.scale.shape)
    return OnGrid(found, stored, raised)


def _largest(one: SolvableCodes, weight: Floats, places: NDArray[np.intp]) -> Floats:
    """For each scale the one that covers every value: ``(scales,)``; see ``weight_scales``.

    Where there are zero points, that is the scale that there is.
    """
    coded = one.coded
    if coded.zero_point.any() or coded.qmin >= 0:
        return coded.scale.astype(np.float64).ravel()
    peaks = np.zeros(coded.scale.size)
    np.maximum.at(peaks, places.ravel(), np.abs(weight).ravel() / one.layer.alpha)
    alive = peaks > 0
    peaks[~alive] = peaks[alive].min() if alive.any() else coded.qmax
    return np.maximum(peaks / coded.qmax, coded.least)


def _least(one: SolvableCodes, bias: Floats, places: NDArray[np.intp], largest: Floats) -> Floats:
    """For each scale the least with which a bias fits into 32 bits: ``(scales,)``."""
    least = np.full(largest.shape, one.coded.least)
    if one.input_scale is not None:
        needed = np.abs(bias) / one.input_scale / _MOST_BIAS
        np.maximum.at(least, places[:, 0].ravel(), needed.ravel())
    return least


def _raised(one: SolvableCodes, weight: Floats, scales: Floats) -> tuple[Floats, int]:
    """Scales with which nearest rounding does not let the kernel overflow, and how many rose."""
    coded, layer = one.coded, one.layer
    if layer.depthwise or layer.kind == "contraction":
        return scales, 0
    matrix = kernel_matrix(layer, from_blocks(layer, weight) / layer.alpha)
    single = scales.astype(np.float32)
    per = single if len(scales) == matrix.shape[1] else np.repeat(single[:1], matrix.shape[1])
    factors = saturation.raise_factors(matrix, per, qmax=coded.qmax)
    raised = int((factors > 1).sum())
    if len(scales) == 1:
        factors = factors.max(initial=1.0, keepdims=True)
    above = np.where(factors > 1, _ABOVE, 1.0)
    return (single * factors).astype(np.float64) * above, raised


def _without_overflow(
    one: SolvableCodes,
    weight: Floats,
    found: Floats,
    grid: CodeGrid,
    mask: NDArray[np.bool_] | None,
) -> Floats:
    """The rounded weight, to nearest in the outputs in which other codes would overflow."""
    layer = one.layer
    if layer.depthwise:
        return found
    codes = np.rint(from_blocks(layer, found / grid.scale)).astype(np.int64)
    unsafe = saturation.unsafe_channels(kernel_matrix(layer, codes))
    near = grid.nearest(weight)
    near = near if mask is None else near * mask
    return np.where(unsafe.reshape(layer.groups, 1, -1), near, found)
