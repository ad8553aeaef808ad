"""Covariances of few samples, with less trust in what may be chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.moments import Moments

__all__ = ["shrunk"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_PARTS = 16
"""Of the rows, between which covariances are compared: each of some samples."""


def shrunk(moments: Moments, rows: Singles) -> Floats:
    """The covariance drawn towards its diagonal, as far as parts of the rows disagree on it.

    ``(1 - s) C + s diag(C)`` with s the sum of the variances of what is beside the diagonal over
    that of its squares, of inputs scaled to variance 1: of all s the one of least expected error.
    The variance is that between runs of rows, so that rows of one sample, which are alike, do not
    count as many.

    Source: Schaefer and Strimmer 2005, A Shrinkage Approach to Large-Scale Covariance Matrix
    Estimation, target D; Ledoit and Wolf 2004.

    Args:
        moments: Of the rows.
        rows: ``(rows, groups, width)``, in the order of the samples.

    Returns:
        ``(groups, width, width)``.
    """
    covariance = moments.covariance
    parts = np.array_split(np.arange(len(rows)), min(_PARTS, len(rows)))
    if len(parts) < _PARTS:
        return covariance
    sizes = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    factors = np.divide(1.0, sizes, out=np.zeros(sizes.shape), where=sizes > 0)
    scaled = factors.astype(np.float32)
    common = (covariance * factors[:, :, None] * factors[:, None]).astype(np.float32)
    strays = np.zeros(len(covariance))
    for part in parts:
        centred = (rows[part] - moments.mean.astype(np.float32)) * scaled
        turned = centred.transpose(1, 2, 0)
        found = turned @ turned.transpose(0, 2, 1) / max(len(part), 1)
        strays += _beside(np.square(found - common))
    variance = strays / (len(parts) * (len(parts) - 1))
    total = _beside(np.square(common))
    share = np.divide(variance, total, out=np.zeros(len(total)), where=total > 0).clip(0, 1)
    diagonal = np.eye(covariance.shape[1]) * covariance
    return np.asarray(covariance + share[:, None, None] * (diagonal - covariance))


def _beside(matrices: Singles) -> Floats:
    """The sum of what is beside the diagonal of each."""
    whole = matrices.sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(whole - np.trace(matrices, axis1=1, axis2=2))
