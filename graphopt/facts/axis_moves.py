"""Axes of the operators that move, repeat, select and join elements without computing on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.facts.axes import ONE, Axis, AxisRule, Call, Draft, Nest, Piece, Shape, Unknown
from graphopt.facts.shapes import Dim

__all__ = [
    "concat",
    "expand",
    "gather",
    "gather_elements",
    "made",
    "pad",
    "regroup",
    "reshape",
    "resize",
    "slice_",
    "split",
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
        a, b = open_[0][0], open_[1][0]
        if _same(a, b) or (_pair(a, b) and _rest(open_[0]) == _rest(open_[1])):
            shared = draft.loop(a if a is not None else b)
            size: Dim = None
        elif isinstance(a, int) and isinstance(b, int) and a and b and max(a, b) % min(a, b) == 0:
            size = min(a, b)
            shared = draft.loop(size)
        else:
            break
        for side, axes, numbers in zip((0, 1), cut, (left, right), strict=True):
            axes[numbers[0]] = _nested(axes[numbers[0]], shared)
            dim = open_[side][0]
            if size is None or dim == size:
                open_[side].pop(0)
                numbers.pop(0)
            elif isinstance(dim, int) and isinstance(size, int):
                open_[side][0] = dim // size
    why = _MIXED if all(isinstance(dim, int) for dim in (*before, *after)) else _UNKNOWN
    for side, axes, numbers in zip((0, 1), cut, (left, right), strict=True):
        for number, dim in zip(numbers, open_[side], strict=True):
            axes[number] = draft.fix(_nested(axes[number], draft.loop(dim)), why)
    for a, b in ends:
        cut[0][a] = cut[1][b] = draft.loop(before[a])
    return [axis or ONE for axis in cut[0]], [axis or ONE for axis in cut[1]]


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


def concat(call: Call) -> Nest:
    """The stretches of one axis come from one input each; the other axes are shared."""
    draft = Draft(call)
    shapes = [call.shape(index) for index in range(len(call.inputs))]
    at = call.attribute("axis", 1) % len(shapes[0])
    axes = draft.each([_best(dims) for dims in zip(*shapes, strict=True)])
    del draft.sizes[axes[at][0].loops[0]]
    joined: list[Piece] = []
    for index, shape in enumerate(shapes):
        part = draft.loop(shape[at], "part")
        joined += part
        draft.set_input(index, [*axes[:at], part, *axes[at + 1 :]])
    draft.set_output(0, [*axes[:at], tuple(joined), *axes[at + 1 :]])
    return draft.done()


def _best(dims: Sequence[Dim]) -> Dim:
    """The most that is known of a size."""
    return next((dim for dim in dims if isinstance(dim, int)), dims[0])


def split(call: Call) -> Nest:
    """The inverse of Concat; the sizes of the parts become a count even where it is implied."""
    draft = Draft(call)
    shape = call.shape()
    at = call.attribute("axis", 0) % len(shape)
    sizes: Sequence[Dim] | None = call.integers("split", 1)
    count = len(call.outputs)
    if sizes is None and isinstance(shape[at], int):
        chunk = -(-int(shape[at] or 0) // count)
        sizes = [*[chunk] * (count - 1), int(shape[at] or 0) - chunk * (count - 1)]
    if sizes is None:
        raise Unknown(_UNKNOWN)
    axes = draft.each(shape)
    del draft.sizes[axes[at][0].loops[0]]
    parts = [draft.loop(size, "part") for size in sizes]
    draft.set_input(0, [*axes[:at], tuple(p for part in parts for p in part), *axes[at + 1 :]])
    for index, part in enumerate(parts):
        draft.set_output(index, [*axes[:at], part, *axes[at + 1 :]])
    draft.counts["split" if call.opset < 13 else 1] = tuple(parts)
    return draft.done()


def slice_(call: Call) -> Nest:
    """A stretch of an axis; with a step other than 1 the axis is fixed."""
    draft = Draft(call)
    shape = call.shape()
    starts, ends = (call.integers(name, k + 1) for k, name in enumerate(("starts", "ends")))
    if starts is None or ends is None:
        raise Unknown("its bounds are computed")
    numbers = call.integers("axes", 3) or list(range(len(starts)))
    steps = call.integers("steps", 4) or [1] * len(starts)
    axes = draft.each(shape)
    cut = list(axes)
    first: list[Axis] = []
    last: list[Axis] = []
    for number, start, end, step in zip(numbers, starts, ends, steps, strict=True):
        at = number % len(shape)
        size, old = shape[at], axes[at]
        front: Axis = ()
        behind: Axis = ()
        middle = old
        if step != 1 or (not isinstance(size, int) and (start != 0 or end < 2**31 - 1)):
            why = "a step leaves out elements of it" if step != 1 else _UNKNOWN
            axes[at], middle = draft.fix(old, why), draft.loop(None, "kept", why)
        elif isinstance(size, int):
            begin, stop, _ = slice(start, end).indices(size)
            del draft.sizes[old[0].loops[0]]
            front, middle, behind = (
                draft.loop(length, "part") if length > 0 else ()
                for length in (begin, stop - begin, size - max(stop, begin))
            )
            axes[at] = (*front, *middle, *behind)
        cut[at] = middle
        first.append(front)
        last.append((*front, *middle))
    draft.set_input(0, axes)
    draft.set_output(0, cut)
    if all(step == 1 for step in steps):
        draft.counts |= {call.where("starts", 1): tuple(first), call.where("ends", 2): tuple(last)}
    return draft.done()


def pad(call: Call) -> Nest:
    """Constant values before and behind: loops of their own."""
    draft = Draft(call)
    shape = call.shape()
    pads = call.integers("pads", 1) or []
    numbers = call.integers("axes", 3) or list(range(len(shape)))
    axes = draft.each(shape)
    padded = list(axes)
    front: list[Axis] = []
    behind: list[Axis] = []
    constant = call.attribute("mode", "constant") == "constant" and min(pads, default=0) >= 0
    for number, before, after in zip(
        numbers, pads[: len(numbers)], pads[len(numbers) :], strict=True
    ):
        at = number % len(shape)
        if (before or after) and not constant:
            why = "it is cropped or padded with its own elements"
            draft.fix(axes[at], why)
            padded[at] = draft.loop(None, "padded", why)
        front.append(draft.loop(before, "pad") if before > 0 and constant else ())
        behind.append(draft.loop(after, "pad") if after > 0 and constant else ())
        if constant:
            padded[at] = (*front[-1], *axes[at], *behind[-1])
    if constant:
        draft.counts[call.where("pads", 1)] = (*front, *behind)
    draft.set_input(0, axes)
    draft.set_output(0, padded)
    return draft.done()


def gather(call: Call) -> Nest:
    """One index is a stretch, a list of them are picks; what is computed fixes the axis."""
    draft = Draft(call)
    shape, index_shape = call.shape(), call.shape(1)
    at = call.attribute("axis", 0) % len(shape)
    axes = draft.each(shape)
    size, values = shape[at], call.constant(1)
    if values is None or not isinstance(size, int) or values.ndim > 1:
        draft.fix(axes[at], "it is looked up by an index")
        found = draft.each(index_shape)
        draft.set_input(1, found)
    elif values.ndim == 0:
        del draft.sizes[axes[at][0].loops[0]]
        index = int(values) % size
        front, behind = (
            draft.loop(length, "part") if length else () for length in (index, size - index - 1)
        )
        axes[at], found = (*front, *ONE, *behind), []
        draft.counts[1] = (front,)
    else:
        picked = tuple(int(value) % size for value in values)
        found = [(Piece(axes[at][0].loops, picked),)]
        draft.picks = 1
    draft.set_input(0, axes)
    draft.set_output(0, [*axes[:at], *found, *axes[at + 1 :]])
    return draft.done()


def gather_elements(call: Call) -> Nest:
    """All axes but the one that is looked up are shared, where their sizes agree."""
    draft = Draft(call)
    shape, index_shape = call.shape(), call.shape(1)
    at = call.attribute("axis", 0) % len(shape)
    data = draft.each(shape)
    found = list(data)
    for number, (size, other) in enumerate(zip(shape, index_shape, strict=True)):
        if number == at or not isinstance(size, int) or size != other:
            draft.fix(data[number], "it is looked up by an index")
            found[number] = draft.loop(other, why="it is looked up by an index")
    draft.set_input(0, data)
    draft.set_input(1, found)
    draft.set_output(0, found)
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
