"""A weight of floats put on a codebook, its scales and centres chosen anew."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.families.refitting.blocks import blocks_of
from graphopt.families.refitting.codes import OnGrid, SolvableCodes
from graphopt.numerics.centre_grids import CentreGrid, solved_centres
from graphopt.numerics.codebooks import fit_centres
from graphopt.numerics.rounding import coordinate_descent, rounded
from graphopt.numerics.weight_grids import error_of
from graphopt.rewrite.palettes import SCALE_TOLERANCE, stored_floats

__all__ = ["put_on_codebook"]

Floats = NDArray[np.float64]

_ROUNDS = 2
"""In which centres are solved for, and codes move to them."""


def put_on_codebook(
    one: SolvableCodes,
    weight: Floats,
    covariance: Floats,
    mask: NDArray[np.bool_] | None = None,
) -> OnGrid:
    """Fit scales and centres by what they cost the results, round, then solve for the centres.

    Args:
        one: The layer.
        weight: What is to be rounded, ``(groups, width, out)``.
        covariance: Of what it is multiplied with, ``(groups, width, width)``.
        mask: Which values of the weight may differ from zero; None for all.
    """
    coded, alpha = one.coded, one.layer.alpha
    places = blocks_of(one.layer, coded.places)
    importance = np.diagonal(covariance, axis1=1, axis2=2)[:, :, None]
    counts = np.broadcast_to(importance, weight.shape)
    scale = _scales(weight / alpha, counts, places, coded.scale.size)
    spread = scale.astype(np.float64)[places]
    ratio = np.divide(weight / alpha, spread, out=np.zeros(weight.shape), where=spread > 0)
    assert coded.centres is not None
    zero = mask is not None or bool((coded.centres == 0).any())
    fitted = fit_centres(ratio, counts * spread**2, coded.qmax + 1, zero=zero)
    grid = CentreGrid(spread * alpha, _held(fitted))
    found, _ = rounded(weight, covariance, grid, mask=mask)
    least = error_of(weight - found, covariance).sum()
    for _ in range(_ROUNDS):
        codes = grid.codes(found)
        centres = np.sort(_held(solved_centres(weight, covariance, grid, codes)))
        moved = CentreGrid(grid.scale, centres)
        start = moved.nearest(found)
        start = start if mask is None else start * mask
        tried = coordinate_descent(weight, covariance, moved, start, 2, mask)
        error = error_of(weight - tried, covariance).sum()
        if not error < least:
            break
        grid, found, least = moved, tried, error
    return OnGrid(found, scale.reshape(coded.scale.shape), centres=grid.centres.astype(np.float32))


def _held(centres: Floats) -> Floats:
    """Centres as a file holds them."""
    return stored_floats(centres.astype(np.float32)).astype(np.float64)


def _scales(
    weight: Floats, counts: Floats, places: NDArray[np.intp], size: int
) -> NDArray[np.float32]:
    """The weighted root mean square of what shares a scale, the largest from 1 to 2: ``(size,)``.

    What hardly counts has that of all its values.
    """
    index = places.ravel()
    squares = np.square(weight).ravel()

    def mean(weights: Floats) -> Floats:
        mass = np.bincount(index, weights, size)
        total = np.bincount(index, weights * squares, size)
        return np.sqrt(np.divide(total, mass, out=np.zeros(size), where=mass > 0))

    plain, scales = mean(np.ones(len(index))), mean(counts.ravel())
    scales = np.where(scales > 1e-3 * plain, scales, plain)
    scales[scales < 1e-30] = 1.0
    unit = 2.0 ** np.floor(np.log2(scales.max(initial=1e-30)))
    return stored_floats((scales / unit).astype(np.float32), SCALE_TOLERANCE)
