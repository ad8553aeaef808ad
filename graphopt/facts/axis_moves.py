"""Axes of the operators that reorder, repeat and make elements without computing on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.facts.axes import ONE, Axis, Nest, Piece, Shape
from graphopt.facts.axis_rules import AxisRule, Call, Draft
from graphopt.facts.shapes import Dim

__all__ = [
    "expand",
    "made",
    "regroup",
    "reshape",
    "resize",
    "tile",
    "transpose",
]

_UNKNOWN = "sizes are not known"
_MIXED = "Reshape cuts across it"


def regroup(draft: Draft, before: Shape, after: Shape) -> tuple[list[Axis], list[Axis]]:
    """Axes of two shapes whose elements come in the same order.

    Both are cut into common loops: ``(4, 6)`` and ``(8, 3)`` are ``a (b c)`` and ``(a b) c``.
    """
    left, right = ([k for k, dim in enumerate(shape) if dim != 1] for shape in (before, after))
    cut: tuple[list[Axis], list[Axis]] = ([()] * len(before), [()] * len(after))
    ends: list[tuple[int, int]] = []
    while left and right and _same(before[left[-1]], after[right[-1]]):
        ends.append((left.pop(), right.pop()))
    open_ = [[before[k] for k in left], [after[k] for k in right]]
    while left and right:
        common = _common(*open_)
        if common is None:
            break
        shared = draft.loop(common[0])
        for dims, axes, numbers, rest in zip(open_, cut, (left, right), common[1:], strict=True):
            axes[numbers[0]] = _nested(axes[numbers[0]], shared)
            if rest == 1:
                dims.pop(0)
                numbers.pop(0)
            else:
                dims[0] = rest
    why = _MIXED if all(isinstance(dim, int) for dim in (*before, *after)) else _UNKNOWN
    for side, axes, numbers in zip((0, 1), cut, (left, right), strict=True):
        for number, dim in zip(numbers, open_[side], strict=True):
            axes[number] = draft.fix(_nested(axes[number], draft.loop(dim)), why)
    for a, b in ends:
        cut[0][a] = cut[1][b] = draft.loop(before[a])
    return [axis or ONE for axis in cut[0]], [axis or ONE for axis in cut[1]]


def _common(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[Dim, int, int] | None:
    """The outermost loop that two lists of sizes share, and how often it goes into the first sizes.

    None where they cut across each other, or may do so.
    """
    a, b = before[0], after[0]
    if _same(a, b) or (_pair(a, b) and _rest(before) == _rest(after)):
        return a if a is not None else b, 1, 1
    if isinstance(a, int) and isinstance(b, int) and a and b and max(a, b) % min(a, b) == 0:
        size = min(a, b)
        return size, a // size, b // size
    return None


def _same(a: Dim, b: Dim) -> bool:
    return a is not None and a == b


def _pair(a: Dim, b: Dim) -> bool:
    return not isinstance(a, int) and not isinstance(b, int)


def _rest(dims: Sequence[Dim]) -> int | None:
    """Product of all sizes but one that is unknown; None where more are."""
    known = [dim for dim in dims if isinstance(dim, int)]
    return math.prod(known) if len(dims) - len(known) == 1 else None


def _nested(axis: Axis, inner: Axis) -> Axis:
    """An axis with a further loop inside."""
    return (Piece((*(axis[0].loops if axis else ()), *inner[0].loops)),)


def reshape(call: Call) -> Nest:
    """Reshape, Flatten, Squeeze, Unsqueeze: the order of the elements stays."""
    draft = Draft(call)
    before, after = regroup(draft, call.shape(), call.result())
    draft.set_input(0, before)
    draft.set_output(0, after)
    if call.node.op_type == "Reshape":
        draft.counts[call.where("shape", 1)] = tuple(after)
    return draft.done()


def transpose(call: Call) -> Nest:
    """Axis ``k`` of the result is axis ``perm[k]`` of the input."""
    draft = Draft(call)
    axes = draft.each(call.shape())
    order = call.attribute("perm", []) or range(len(axes))[::-1]
    draft.set_input(0, axes)
    draft.set_output(0, [axes[k] for k in order])
    return draft.done()


def expand(call: Call) -> Nest:
    """An axis of size 1 becomes a loop of the result alone."""
    draft = Draft(call)
    before, after = call.shape(), call.result()
    shown = [draft.loop(size) if size != 1 else ONE for size in after]
    axes = list(shown[len(after) - len(before) :])
    for number, (size, axis) in enumerate(zip(before, axes, strict=True)):
        if size == 1:
            axes[number] = ONE
        elif size != after[len(after) - len(before) + number]:
            draft.fix(axis, _UNKNOWN)
    draft.set_input(0, axes)
    draft.set_output(0, shown)
    draft.counts[1] = tuple(shown)
    return draft.done()


def tile(call: Call) -> Nest:
    """The repetition is the outer loop of each axis."""
    draft = Draft(call)
    repeats = call.integers("repeats", 1) or []
    axes = [ONE if size == 1 else draft.loop(size) for size in call.shape()]
    again = [ONE if count == 1 else draft.loop(count, "repeat") for count in repeats]
    draft.set_input(0, axes)
    draft.set_output(0, [_nested(outer, inner) for outer, inner in zip(again, axes, strict=True)])
    draft.counts[1] = tuple(again)
    return draft.done()


def resize(call: Call) -> Nest:
    """Axes that keep their size are shared, unless a linear filter or a crop goes over them."""
    draft = Draft(call)
    before, after = call.shape(), call.result()
    crop = call.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    axes = draft.each(before)
    resized = list(axes)
    for number, (size, new) in enumerate(zip(before, after, strict=True)):
        first = number < 2 and len(before) > 2  # batch and channels, whose size is one symbol
        if crop or not (_same(size, new) or (first and _pair(size, new))):
            why = "it is resized"
            draft.fix(axes[number], why)
            resized[number] = draft.loop(new, why=why)
        elif number > 1:
            draft.fix(axes[number], "its neighbours are resized")
    draft.set_input(0, axes)
    draft.set_output(0, resized)
    if call.has(3):
        draft.counts[3] = _listed(call, resized)
    return draft.done()


def _listed(call: Call, axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Those axes that Resize names, all by default."""
    named = call.attribute("axes", [])
    return tuple(axes[number] for number in named) if named else tuple(axes)


def made(sizes_at: int | None = None, why: str = "") -> AxisRule:
    """Results of which each axis is a loop of its own.

    Args:
        sizes_at: The input that says the shape.
        why: Why they cannot lose a value; empty where they can.
    """

    def rule(call: Call) -> Nest:
        draft = Draft(call)
        for index, shape in enumerate(call.outputs):
            if shape is not None:
                draft.set_output(index, draft.each(shape, why))
        first = draft.outputs[0]
        if sizes_at is not None and first is not None:
            draft.counts[sizes_at] = first
        return draft.done()

    return rule
