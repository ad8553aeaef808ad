"""Whether a model answers better than whoever always names the commonest label."""

from __future__ import annotations

import numpy as np

from graphopt.graph.tensors import Array
from graphopt.run.margins import SHARES_RIGHT
from graphopt.run.quality import Metric
from graphopt.tasks.label_values import LEFT_OUT

__all__ = ["guesses"]


def guesses(metric: Metric | None, labels: Array | None) -> str:
    """What is to be told of labels by which the model as it came is no better than a guess.

    Args:
        metric: What the labels made of it.
        labels: Of the samples that it was judged on.

    Returns:
        A sentence; empty where it is better, or where that cannot be told.
    """
    if metric is None or labels is None or metric.name not in SHARES_RIGHT:
        return ""
    if labels.dtype.kind not in "iu":
        return ""
    counts = np.unique(labels[~np.isin(labels, LEFT_OUT)], return_counts=True)[1]
    if len(counts) < 2:
        return ""
    commonest = 100 * counts.max() / counts.sum()
    if metric.before > commonest:
        return ""
    return (
        f"{metric.name} of the model as it came is {metric.before:.2f} by these labels, and always "
        f"to name the commonest of them gives {commonest:.2f}: a limit on its fall protects little "
        "then; check that they belong to the samples and count as the model does"
    )
