"""Second-order removal of weights: which go, if the others make up for them as best they can."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.scores import AskedZeros, Mask, block_mask, block_sums

__all__ = ["damped", "second_order_mask"]

Floats = NDArray[np.float64]

_PENALTY = 0.1
"""At the start, for inputs of mean square 1; a tenth or three times as much finds masks as good."""
_GROWTH = 1.05
"""Of the penalty in each step: slower takes longer for errors that are 1 % less."""
_STEPS = 150
_WIDE = 1024
"""Of more inputs the products are taken in float32, in half the time."""
_SETTLED = 8
"""So many steps without a change of the mask, and it is final."""


def damped(gram: Floats, share: float) -> Floats:
    """``G + share * mean(diag G) * I``: positive definite, whatever inputs are never used.

    >>> damped(np.diag([1.0, 3.0]), 0.5)
    array([[2., 0.],
           [0., 4.]])
    """
    mean = float(np.trace(gram)) / len(gram)
    return gram + (share * mean if mean > 0 else 1.0) * np.eye(len(gram))


def second_order_mask(
    weights: Floats, gram: Floats, zeros: AskedZeros, zero: Mask | None = None
) -> Mask:
    """The mask with which the output error is least once the remaining weights are fitted again.

    That is least squares under a bound on the number of non-zeros. It is approached by the
    alternating direction method of multipliers: weights W that are good, D that have the zeros,
    and a penalty that draws the two together and grows until the mask settles. All rows are
    worked on at once, by products of matrices. Masks are better than those of optimal brain
    surgeon, which takes one weight after the other and never takes one back.

    Args:
        weights: ``(groups, out, in)``, the best without zeros: those of least error
            ``tr (W' - W) G (W' - W)'``. All groups share the zeros.
        gram: G of each group, ``(groups, in, in)``, positive definite.
        zeros: What is to be zero in ``(groups * out, in)``.
        zero: Where weights are zero already, and go first, shaped as ``weights``; None for
            nowhere. A block goes first where all of it is zero.

    Returns:
        True where a weight stays, of the shape of ``weights``.

    Raises:
        ValueError: Blocks or groups do not divide the weight.

    Source: Meng et al., ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large
    Language Models (2024), section 3.1. The cost of a single weight is that of Hassibi and Stork,
    Second Order Derivatives for Network Pruning (1993), equation 5.

    >>> alike = np.array([[[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    >>> second_order_mask(np.array([[[1.0, 0.9, 0.9]]]), alike, AskedZeros(1 / 3)).tolist()
    [[[True, False, True]]]
    """
    kind = np.float32 if gram.shape[-1] > _WIDE else np.float64
    scale = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))[:, None, :]
    alike = gram / (scale * scale.transpose(0, 2, 1))
    powers, axes = np.linalg.eigh(alike.astype(kind))
    powers = np.maximum(powers, 0)  # what rounding makes of those that are nearly none
    powers, back = powers[:, None, :], axes.transpose(0, 2, 1)
    dense: Floats = (weights * scale).astype(kind)
    wanted = (dense @ axes) * powers
    first = None if zero is None else _scores((~zero).astype(np.float64), zeros) == 0
    sparse, price = dense, np.zeros_like(dense)
    keep, penalty, settled = np.ones(weights.shape, np.bool_), _PENALTY, 0
    for _ in range(_STEPS):
        near = ((wanted + (penalty * sparse - price) @ axes) / (powers + penalty)) @ back
        aim = near + price / penalty
        stays = _nearest(aim, zeros, first)
        sparse = np.where(stays, aim, 0.0)
        price = price + penalty * (near - sparse)
        settled = settled + 1 if (stays == keep).all() else 0
        keep = stays
        if settled == _SETTLED:
            break
        penalty *= _GROWTH
    return keep


def _nearest(weights: Floats, zeros: AskedZeros, first: Mask | None) -> Mask:
    """Where the nearest weights that have the zeros differ from zero."""
    scores = _scores(weights * weights, zeros)
    if first is not None:
        scores[first] = -1.0
    return block_mask(zeros.keep(scores), zeros.block).reshape(weights.shape)


def _scores(values: Floats, zeros: AskedZeros) -> Floats:
    """The sum of each block, ``(groups * out / block, in / block)``."""
    return block_sums(values.reshape(-1, values.shape[-1]), zeros.block)
