"""Which rows of two lists are the same: by overlap and class, by integers, or the nearest."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

__all__ = ["corners", "match_boxes", "match_equal", "match_nearest", "overlaps"]

Pairs = NDArray[np.intp]
"""Places in the first list and in the second ``(pairs, 2)``, each place at most once."""

_IOU = 0.5
_MOST_ROWS = 2000
"""Of longer lists only the first rows are matched, each list's own."""
_NEAR = 0.5
"""Squared distance over the variance of the rows within which two rows can be the same."""


def corners(boxes: NDArray[np.float64]) -> bool:
    """Whether boxes ``(rows, 4)`` are two corners each, and not a centre and a size."""
    return bool((boxes[:, 2:] >= boxes[:, :2]).all())


def overlaps(
    first: NDArray[np.float64], second: NDArray[np.float64], *, by_corners: bool = True
) -> NDArray[np.float64]:
    """Intersection over union of each box with each ``(rows, rows)``.

    Args:
        first: ``(rows, 4)``.
        second: Of the same form.
        by_corners: Two corners each; else a centre and a size.

    >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 1], [5, 5, 6, 6]])).tolist()
    [[0.5, 0.0]]
    """
    a, b = (each if by_corners else _by_corners(each) for each in (first, second))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(each[:, 2:] - each[:, :2], 0, None).prod(axis=1) for each in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - common
    same = (a[:, None, :] == b[None, :, :]).all(axis=2)  # of no area, too
    ratio: NDArray[np.float64] = np.where(same, 1.0, common / np.where(union > 0, union, 1.0))
    return ratio


def match_boxes(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    classes: tuple[NDArray[Any], NDArray[Any]] | None = None,
    *,
    by_corners: bool = True,
) -> Pairs:
    """Boxes of the same class that overlap by half or more, so that most overlap is had.

    Args:
        first: ``(rows, 4)``.
        second: The same.
        classes: Of the boxes of both ``(rows, labels)``; None where they have none.
        by_corners: See ``overlaps``.
    """
    a, b = first[:_MOST_ROWS], second[:_MOST_ROWS]
    if not len(a) or not len(b):
        return _none()
    gain = overlaps(a, b, by_corners=by_corners)
    if classes is not None:
        ours, theirs = classes[0][: len(a)], classes[1][: len(b)]
        gain = np.where((ours[:, None] == theirs[None, :]).all(axis=2), gain, 0.0)
    gain = np.where(gain >= _IOU, gain, 0.0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    fits = gain[rows, columns] > 0
    return np.stack([rows[fits], columns[fits]], axis=1)


def match_equal(first: NDArray[Any], second: NDArray[Any]) -> Pairs:
    """Rows that hold the same values ``(rows, columns)``; equal ones in their order."""
    places = defaultdict[tuple[Any, ...], list[int]](list)
    for place, row in enumerate(second.tolist()):
        places[tuple(row)].append(place)
    pairs = []
    taken = defaultdict[tuple[Any, ...], int](int)
    for place, row in enumerate(first.tolist()):
        key = tuple(row)
        if taken[key] < len(places.get(key, ())):
            pairs.append((place, places[key][taken[key]]))
            taken[key] += 1
    return np.array(pairs, np.intp).reshape(-1, 2)


def match_nearest(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    keys: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> Pairs:
    """Rows that are near each other, so that the sum of distances is least.

    Distances are squared, in units of the variance of each column over the first rows; those far
    beyond what rows differ by among themselves are no match.

    Args:
        first: ``(rows, columns)``.
        second: The same.
        keys: What must be equal ``(rows, keys)``; None for nothing.
    """
    a, b = first[:_MOST_ROWS], second[:_MOST_ROWS]
    if not len(a) or not len(b):
        return _none()
    spread = a.std(axis=0)
    scale = np.where(spread > 0, spread, np.maximum(np.abs(a).mean(axis=0), 1e-12))
    cost = cdist(a / scale, b / scale, "sqeuclidean") / max(a.shape[1], 1)
    cost = np.where(np.isfinite(cost), cost, 2 * _NEAR)
    fits = cost <= _NEAR
    if keys is not None:
        ours, theirs = keys[0][: len(a)], keys[1][: len(b)]
        fits &= (ours[:, None] == theirs[None, :]).all(axis=2)
    rows, columns = linear_sum_assignment(np.where(fits, cost, 2 * _NEAR))
    kept = fits[rows, columns]
    return np.stack([rows[kept], columns[kept]], axis=1)


def _by_corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def _none() -> Pairs:
    return np.zeros((0, 2), np.intp)
