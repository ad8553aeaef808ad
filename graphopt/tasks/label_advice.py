"""What is said of labels that fit no output: what would fit, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphopt.tasks.label_heads import Head, columns, same_places, without
from graphopt.tasks.label_values import IGNORED, LabelValues
from graphopt.tasks.task import TaskKind

__all__ = ["misfit"]

_NAMED = 4
"""Most outputs of which a message says what they take."""
_WANTED: Mapping[TaskKind, str] = {
    "binary": "0 and 1",
    "multi-label": "0 and 1",
    "mask": "0 and 1",
    "indices": "whole numbers",
    "texts": "texts",
    "regression": "numbers",
    "boxes": "numbers",
}


def misfit(values: LabelValues, heads: Sequence[Head]) -> str:
    """That labels fit no output, what would, and what to do where that can be told."""
    wanted = "; ".join(_wanted(head) for head in heads[:_NAMED]) or "none has one shape for all"
    advice = next(filter(None, (_advice(head, values) for head in heads)), "")
    return "; ".join(filter(None, [f"labels of {values} fit no output: {wanted}", advice]))


def _wanted(head: Head) -> str:
    """The labels that would fit, in words."""
    own, kind = _words(head.shape), head.task.kind
    parts = []
    if head.unclear and columns(head.shape, head.axis) == 1:
        parts += [f"0 and 1 of shape {own}"]
    elif head.axis is not None and (head.unclear or kind == "classes"):
        rest = _words(without(head.shape, head.axis))
        width = head.shape[head.axis]
        parts += [f"class numbers 0 to {width - 1} of shape {rest}", f"one-hot rows {own}"]
    if kind in _WANTED:
        parts += [f"{_WANTED[kind]} of shape {own}"]
    if not parts or head.task.free_rows:
        return f"output {head.name!r} is {head.task}"
    return f"output {head.name!r} takes {' or '.join(parts)}"


def _advice(head: Head, values: LabelValues) -> str:
    """What may be wrong with labels of classes that nearly fit; empty where nothing is known."""
    if head.axis is None or not (head.unclear or head.task.kind == "classes"):
        return ""
    width, rest = head.shape[head.axis], without(head.shape, head.axis)
    if width < 2 or not values.whole or not same_places(rest, values.shape):
        return ""
    if values.classes:
        return (
            f"{len(values.classes)} texts do not say which of the numbers 0 to {width - 1} each "
            "of them has; give class numbers"
        )
    counted = values.numbers[~np.isin(values.numbers, values.left_out)]
    if not counted.size or counted.max() != width:
        return ""
    if counted.min() > 0:
        return "it seems that they count from 1; subtract 1"
    return (
        f"0 to {width} are one number more than there are classes; where 0 says nothing, subtract "
        f"1 and give {IGNORED} in its place"
    )


def _words(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(['N', *map(str, shape)])}]"
