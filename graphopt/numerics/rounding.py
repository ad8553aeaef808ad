"""Weights put on a grid so that what a layer gives changes least, by what it reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.weight_grids import ValueGrid, error_of

__all__ = ["coordinate_descent", "rounded", "second_order"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_DAMPING = 0.01
"""Share of the mean of the diagonal that is added to it."""
_BLOCK = 64
"""Inputs that are worked on before the others learn of it, by one product of matrices."""
_VALUES = 1 << 22
"""Values of a weight that are rounded at once, those of all scales that are tried."""


def rounded(
    weight: Floats,
    covariance: Floats,
    grid: ValueGrid,
    *,
    factors: tuple[float, ...] = (1.0,),
    sweeps: int = 3,
    mask: Mask | None = None,
) -> tuple[Floats, NDArray[np.intp]]:
    """The weight on its grid: second-order rounding, then coordinate descent, output by output.

    No output costs more than by rounding each of its values to nearest.

    Args:
        weight: ``(groups, width, out)``.
        covariance: Of what it is multiplied with, ``(groups, width, width)``.
        grid: Values that it can have.
        factors: Of the scales that are tried; each output takes what costs it least.
        sweeps: Of coordinate descent over all inputs.
        mask: Which values may differ from zero; None for all.

    Returns:
        Values of the grid with the factor of each output, ``(groups, width, out)``, and which
        factor that is, ``(groups, out)``.
    """
    groups, width, outs = weight.shape
    order = _order(covariance)
    upper = _upper(covariance, order)
    found = np.empty_like(weight)
    which = np.zeros((groups, outs), np.intp)
    many = max(1, _VALUES // max(1, groups * width * len(factors)))
    for start in range(0, outs, many):
        part = slice(start, start + many)
        one = weight[..., part]
        count = one.shape[-1]
        tried = grid.outputs(part).scaled(factors)
        tiled = np.tile(one, (1, 1, len(factors)))
        allowed = None if mask is None else np.tile(mask[..., part], (1, 1, len(factors)))
        near = tried.nearest(tiled)
        near = near if allowed is None else near * allowed
        best = second_order(tiled, upper, order, tried, allowed)
        best = coordinate_descent(tiled, covariance, tried, best, sweeps, allowed)
        costs = error_of(tiled - best, covariance)
        plain = error_of(tiled - near, covariance)
        worse = costs > plain
        best = np.where(worse[:, None], near, best)
        costs = np.minimum(costs, plain).reshape(groups, len(factors), count)
        chosen = costs.argmin(axis=1)
        shaped = best.reshape(groups, width, len(factors), count)
        found[..., part] = np.take_along_axis(shaped, chosen[:, None, None], axis=2)[:, :, 0]
        which[..., part] = chosen
    return found, which


def _order(covariance: Floats) -> NDArray[np.intp]:
    """Inputs by how much they vary, the most varying first, alike for all groups."""
    diagonal = np.diagonal(covariance, axis1=1, axis2=2)
    share = diagonal / np.maximum(diagonal.sum(axis=1, keepdims=True), 1e-300)
    return np.asarray(np.argsort(-share.mean(axis=0), kind="stable"))


def _upper(covariance: Floats, order: NDArray[np.intp]) -> Floats:
    """Upper factor U with ``U' U`` the inverse of the damped covariance, in that order."""
    size = covariance.shape[1]
    damped = covariance[:, order][:, :, order].astype(np.float64)
    level = _DAMPING * np.trace(damped, axis1=1, axis2=2) / max(size, 1)
    damped += np.where(level > 0, level, 1.0)[:, None, None] * np.eye(size)
    inverse = np.linalg.inv(damped)
    inverse = (inverse + inverse.transpose(0, 2, 1)) / 2
    return np.asarray(np.linalg.cholesky(inverse).transpose(0, 2, 1))


def second_order(
    weight: Floats,
    upper: Floats,
    order: NDArray[np.intp],
    grid: ValueGrid,
    mask: Mask | None = None,
) -> Floats:
    """Round input after input; those that follow make up for the error of those before.

    With the upper factor U of the inverse covariance, input j, ``e = (w_j - q_j) / U_jj`` and
    ``w_k -= e U_jk`` for each k behind it.

    Source: Frantar et al. 2022, GPTQ: Accurate Post-Training Quantization for Generative
    Pre-trained Transformers, section 3.

    Args:
        weight: ``(groups, width, out)``.
        upper: ``(groups, width, width)``, its axes in the order of rounding.
        order: In which inputs are rounded, ``(width,)``.
        grid: Values that the weight can have.
        mask: Which may differ from zero; None for all.
    """
    left = weight[:, order]
    found = np.empty_like(left)
    size = len(order)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        part = left[:, start:stop]
        errors = np.empty_like(part)
        for at in range(stop - start):
            j = start + at
            value = part[:, at]
            code = grid.column(int(order[j])).nearest(value)
            if mask is not None:
                code = code * mask[:, order[j]]
            found[:, j] = code
            error = (value - code) / upper[:, j, j, None]
            errors[:, at] = error
            part[:, at + 1 :] -= upper[:, j, j + 1 : stop, None] * error[:, None]
        if stop < size:
            left[:, stop:] -= upper[:, start:stop, stop:].transpose(0, 2, 1) @ errors
    back = np.empty_like(found)
    back[:, order] = found
    return back


def coordinate_descent(
    weight: Floats,
    covariance: Floats,
    grid: ValueGrid,
    start: Floats,
    sweeps: int = 3,
    mask: Mask | None = None,
) -> Floats:
    """Move values of a rounded weight, one input at a time, to where the results change least.

    With ``P = H (W - Q)`` input j goes to the value of the grid nearest to ``Q_j + P_j / H_jj``,
    which is the best for it while the others stay: the error ``e' H e`` never rises.

    Args:
        weight: What is rounded, ``(groups, width, out)``.
        covariance: H, ``(groups, width, width)``.
        grid: Values that it can have.
        start: Values of the grid to start from.
        sweeps: Over all inputs, fewer where nothing changes any more.
        mask: Which may differ from zero; None for all.
    """
    found, size = start.copy(), weight.shape[1]
    diagonal = np.diagonal(covariance, axis1=1, axis2=2)
    moves = diagonal > 1e-12 * np.maximum(diagonal.max(axis=1, initial=0)[:, None], 1e-300)
    pulls = covariance @ (weight - found)
    for _ in range(sweeps):
        changed = False
        for begin in range(0, size, _BLOCK):
            stop = min(begin + _BLOCK, size)
            inner = np.ascontiguousarray(covariance[:, begin:stop, begin:stop])
            part, changes = pulls[:, begin:stop].copy(), np.zeros_like(found[:, begin:stop])
            for at in range(stop - begin):
                j = begin + at
                step = part[:, at] / np.where(moves[:, j], diagonal[:, j], np.inf)[:, None]
                code = grid.column(j).nearest(found[:, j] + step)
                if mask is not None:
                    code = code * mask[:, j]
                change = code - found[:, j]
                if not change.any():
                    continue
                found[:, j] = code
                changes[:, at] = change
                part -= inner[:, :, at, None] * change[:, None]
            if changes.any():
                changed = True
                pulls -= covariance[:, :, begin:stop] @ changes
        if not changed:
            break
    return found
