"""Samples held out so that every class is among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.bridge.training.judged import Judged
from graphopt.graph.tensors import Array

__all__ = ["spread_out", "strata"]


def strata(judged: Judged, labels: Array) -> NDArray[np.int64] | None:
    """The class of each sample, by which samples are held out: ``(samples,)``; None of numbers.

    Of a sample of several classes or labels it is the one that the fewest samples have.
    """
    if judged.hard not in ("cross-entropy", "binary-cross-entropy"):
        return None
    axis = judged.task.axis
    if judged.task.kind == "multi-label":
        columns: Array = labels if axis is None else np.moveaxis(labels, axis, -1)
        held = columns.reshape(len(labels), -1, columns.shape[-1])
        present = np.asarray(held.max(axis=1) > 0)
    else:
        rows: Array = labels.reshape(len(labels), -1)
        if rows.shape[1] == 1:
            return np.asarray(rows[:, 0], np.int64)
        present = np.zeros((len(rows), int(rows.max()) + 1), bool)
        for index, row in enumerate(rows):
            present[index, row[row >= 0]] = True
    shares = np.where(present, present.sum(0), len(labels) + 1)
    none = ~present.any(axis=1)
    return np.where(none, -1, shares.argmin(axis=1)).astype(np.int64)


def spread_out(classes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """An order in which the first ``count`` hold of each class its share, of all at least one.

    Classes of one element come last, and where there are more classes than ``count``, the rarest.

    Args:
        classes: Of the elements, in an order that is kept within each class.
        count: How many are to stand in front.
    """
    _, sizes = np.unique(classes, return_counts=True)
    ideal = count * sizes / max(1, len(classes))
    most = sizes - 1
    takes = np.clip(np.floor(ideal).astype(np.int64), np.minimum(1, most), most)
    while takes.sum() < min(count, most.sum()):
        takes[np.where(takes < most, ideal - takes, -np.inf).argmax()] += 1
    while takes.sum() > count:
        spare = np.where(takes > 1, takes - ideal, -np.inf)
        rare = np.where(takes > 0, -sizes.astype(np.float64), -np.inf)
        takes[(spare if np.isfinite(spare).any() else rare).argmax()] -= 1
    order = np.argsort(classes, kind="stable")
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    first = np.zeros(len(classes), bool)
    first[order] = np.arange(len(classes)) - starts < np.repeat(takes, sizes)
    return np.concatenate([np.flatnonzero(first), np.flatnonzero(~first)])
