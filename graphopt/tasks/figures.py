"""Which figures there are of outputs with labels, and which tell most."""

from __future__ import annotations

import numpy as np

from graphopt.tasks.box_labels import FittedBoxes
from graphopt.tasks.box_scoring import BoxScoring
from graphopt.tasks.labels import Fitted
from graphopt.tasks.scoring import COUNTED, Scoring, label_scoring

__all__ = ["FIGURES", "LOWER_IS_BETTER", "figures_of", "scoring", "shown"]

_MEASURED = ("r2", "mse", "mae")
_PAIRED = ("spearman",)
_FOUND = ("f1", "precision", "recall")
_RANKED = ("ap50", *_FOUND)
FIGURES = ("top1", *COUNTED, *_MEASURED, *_PAIRED, "ap50")
"""Names of all figures; all but errors are in percent."""
LOWER_IS_BETTER = frozenset({"mse", "mae"})
_MAP = 2
"""Axes of places that make a map, of which areas count."""


def figures_of(fitted: Fitted | FittedBoxes) -> tuple[str, ...]:
    """All figures that there are of an output."""
    if isinstance(fitted, FittedBoxes):
        return _RANKED if fitted.ranked else _FOUND
    if fitted.pairs:
        return _PAIRED
    if fitted.task.kind == "classes":
        return ("top1", *COUNTED)
    counted = fitted.task.kind in ("binary", "mask", "multi-label", "indices", "texts")
    return COUNTED if counted else _MEASURED


def shown(fitted: Fitted | FittedBoxes) -> tuple[str, ...]:
    """The figures that tell most of an output, the one that decides first."""
    if isinstance(fitted, FittedBoxes):
        return ("ap50", "recall") if fitted.ranked else _FOUND
    kind, places = fitted.task.kind, sum(size > 1 for size in fitted.labels.shape[1:])
    if fitted.pairs:
        return _PAIRED
    if kind == "classes":
        return (("top1",), ("accuracy", "f1"), ("accuracy", "iou"))[min(places, _MAP)]
    if kind in ("binary", "mask"):
        return ("accuracy", "f1") if places < _MAP else ("iou", "accuracy")
    if kind == "multi-label":
        return ("f1", "accuracy")
    if kind in ("indices", "texts"):
        return ("accuracy",)
    return ("r2", "mse") if np.ptp(fitted.labels) > 0 else ("mse",)


def scoring(fitted: Fitted | FittedBoxes) -> Scoring:
    """What adds up the figures of a model against labels."""
    return BoxScoring(fitted) if isinstance(fitted, FittedBoxes) else label_scoring(fitted)
