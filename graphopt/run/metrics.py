"""Task metrics: higher is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphopt.callables import imported
from graphopt.data.samples import Samples
from graphopt.errors import DataError, Need, UsageError
from graphopt.graph.tensors import Array
from graphopt.options import near_miss

__all__ = [
    "MetricFunction",
    "NamedMetric",
    "find_metric",
    "reads_first_output",
    "spearman",
    "top1",
]

MetricFunction = Callable[[Sequence[Array], Array], float]
"""Takes the outputs of all samples in the model's order and the labels; higher is better."""

NamedMetric = tuple[str, MetricFunction]


def top1(outputs: Sequence[Array], labels: Array) -> float:
    """Share of samples in percent whose first output is largest at the label.

    Args:
        outputs: The first one is ``(samples, ..., classes)`` with one row of scores a sample.
        labels: Class indices ``(samples,)``.
    """
    rows = outputs[0].reshape(len(labels), -1)
    return float(100 * (rows.argmax(axis=1) == labels).mean())


def spearman(outputs: Sequence[Array], labels: Array) -> float:
    """Spearman's rho x 100 between gold scores and the cosines of rows 2i and 2i + 1.

    Args:
        outputs: The first one is ``(2 * pairs, width)``.
        labels: Gold scores ``(pairs,)``.
    """
    from scipy.stats import spearmanr  # noqa: PLC0415 - takes half a second, seldom needed

    rows = outputs[0].reshape(2 * len(labels), -1).astype(np.float64)
    left, right = rows[0::2], rows[1::2]
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = (left * right).sum(axis=1) / np.where(norms > 0, norms, 1)
    return float(100 * spearmanr(cosines, labels).statistic)


_METRICS: dict[str, MetricFunction] = {"top1": top1, "spearman": spearman}


def reads_first_output(function: MetricFunction) -> bool:
    """Whether a metric is one of ours, which read no output but the first."""
    return function in _METRICS.values()


def find_metric(metric: str | MetricFunction | None, samples: Samples | None) -> NamedMetric | None:
    """The metric asked for or, where labels suggest one, that; None without labels.

    Raises:
        UsageError: No metric of that name, or there is no such function.
        DataError: The function's module raises on import, or a metric is asked for and the
            evaluation data has no labels.
    """
    labels = None if samples is None else samples.labels
    if metric is None:
        if samples is None or labels is None:
            return None
        if 2 * len(labels) == samples.count:
            return "spearman", spearman
        whole = labels.dtype.kind in "iu" and labels.ndim == 1
        return ("top1", top1) if whole else None
    if labels is None:
        message = "a metric needs evaluation samples with an array named 'labels'"
        raise DataError(message, Need.EVALUATION)
    if callable(metric):
        return getattr(metric, "__name__", "metric"), metric
    if metric in _METRICS:
        return metric, _METRICS[metric]
    if ":" in metric:
        return metric, imported(metric)
    raise UsageError(f"unknown metric {metric!r}{near_miss(metric, _METRICS)}; or module:function")
