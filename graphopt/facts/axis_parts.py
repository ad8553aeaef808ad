"""Axes of the operators that select stretches of an axis or join them."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.facts.axes import ONE, Axis, Nest, Piece, Unknown
from graphopt.facts.axis_rules import Call, Draft
from graphopt.facts.shapes import Dim

__all__ = ["concat", "gather", "gather_elements", "pad", "slice_", "split"]

_UNKNOWN = "sizes are not known"


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
        size = shape[at]
        front: Axis = ()
        if step == 1 and isinstance(size, int):
            front, cut[at], behind = _stretches(draft, axes[at], size, slice(start, end))
            axes[at] = (*front, *cut[at], *behind)
        elif step != 1 or start != 0 or end < 2**31 - 1:
            why = "a step leaves out elements of it" if step != 1 else _UNKNOWN
            axes[at], cut[at] = draft.fix(axes[at], why), draft.loop(None, "kept", why)
        first.append(front)
        last.append((*front, *cut[at]))
    draft.set_input(0, axes)
    draft.set_output(0, cut)
    if all(step == 1 for step in steps):
        draft.counts |= {call.where("starts", 1): tuple(first), call.where("ends", 2): tuple(last)}
    return draft.done()


def _stretches(draft: Draft, axis: Axis, size: int, chosen: slice) -> list[Axis]:
    """What an axis of a known size has before a slice, in it and behind it."""
    begin, stop, _ = chosen.indices(size)
    del draft.sizes[axis[0].loops[0]]
    lengths = (begin, stop - begin, size - max(stop, begin))
    return [draft.loop(length, "part") if length > 0 else () for length in lengths]


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
