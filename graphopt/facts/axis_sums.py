"""Axes of the operators that compute elementwise or along an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.facts.axes import ONE, Axis, Nest, Piece, Shape, Unknown
from graphopt.facts.axis_rules import AxisRule, Call, Draft
from graphopt.facts.shapes import Dim

__all__ = [
    "AxisRule",
    "along",
    "broadcast",
    "by_attribute",
    "by_version",
    "first",
    "joined",
    "last",
    "layer_norm",
    "pair",
    "quantize",
    "reduce",
    "window_axes",
]

_UNKNOWN = "sizes are not known"


def _shared(draft: Draft, dims: Sequence[Dim], name: str = "loop") -> tuple[Axis, list[Axis]]:
    """An axis of a broadcast result, and what each operand has there."""
    large = {dim for dim in dims if dim != 1}
    if not large:
        return ONE, [ONE] * len(dims)
    known = [dim for dim in dims if isinstance(dim, int) and dim != 1]
    sure = len(large) == 1 and (None not in large or len(dims) == 1)
    axis = draft.loop(known[0] if known else dims[0], name, "" if sure else _UNKNOWN)
    return axis, [ONE if dim == 1 else axis for dim in dims]


def joined(draft: Draft, shapes: Sequence[Shape]) -> tuple[list[Axis], list[list[Axis]]]:
    """Axes of operands that are broadcast against each other, and of the result."""
    rank = max(map(len, shapes), default=0)
    result: list[Axis] = []
    operands: list[list[Axis]] = [[] for _ in shapes]
    for back in range(rank, 0, -1):
        holders = [k for k, shape in enumerate(shapes) if len(shape) >= back]
        axis, parts = _shared(draft, [shapes[k][-back] for k in holders])
        result.append(axis)
        for k, part in zip(holders, parts, strict=True):
            operands[k].append(part)
    return result, operands


def broadcast(call: Call) -> Nest:
    """Each element of the result from one of each operand, by the rules of numpy."""
    draft = Draft(call)
    present = [index for index in range(len(call.inputs)) if call.has(index)]
    result, operands = joined(draft, [call.shape(index) for index in present])
    for index, axes in zip(present, operands, strict=True):
        draft.set_input(index, axes)
    for index in range(len(call.outputs)):
        draft.set_output(index, result)
    return draft.done()


def first(call: Call) -> Nest:
    """Each element of the result from the one of the first input."""
    draft = Draft(call)
    axes = draft.each(call.shape())
    draft.set_input(0, axes)
    draft.set_output(0, axes)
    return draft.done()


def pair(*inputs: int) -> AxisRule:
    """Broadcast of some inputs, the others being parameters."""

    def rule(call: Call) -> Nest:
        draft = Draft(call)
        result, operands = joined(draft, [call.shape(index) for index in inputs])
        for index, axes in zip(inputs, operands, strict=True):
            draft.set_input(index, axes)
        draft.set_output(0, result)
        return draft.done()

    return rule


def last(count: int, why: str) -> AxisRule:
    """Elementwise, but by the position on the last axes."""

    def rule(call: Call) -> Nest:
        draft = Draft(call)
        axes = draft.each(call.shape())
        for axis in axes[-count:]:
            draft.fix(axis, why)
        draft.set_input(0, axes)
        draft.set_output(0, axes)
        return draft.done()

    return rule


def by_attribute(
    name: str, rules: Mapping[Any, AxisRule] | Sequence[AxisRule], default: Any = 0
) -> AxisRule:
    """The rule that belongs to the value of an attribute."""
    return lambda call: rules[call.attribute(name, default)](call)


def by_version(version: int, rules: tuple[AxisRule, AxisRule]) -> AxisRule:
    """The first rule before a version, the second from it on."""
    return lambda call: rules[call.opset >= version](call)


def _named(call: Call, name: str, index: int, rank: int) -> list[int] | None:
    numbers = call.integers(name, index)
    return None if numbers is None else [number % rank for number in numbers]


def reduce(*, summed: bool) -> AxisRule:
    """Axes that vanish: summed up, or with another function, which fixes them."""

    def rule(call: Call) -> Nest:
        draft = Draft(call)
        shape = call.shape()
        if call.node.op_type.startswith("Arg"):
            numbers: list[int] | None = [call.attribute("axis", 0) % len(shape)]
        else:
            numbers = _named(call, "axes", 1, len(shape))
        if not numbers:
            numbers = [] if call.attribute("noop_with_empty_axes", 0) else list(range(len(shape)))
        axes = draft.each(shape)
        kept = call.attribute("keepdims", 1)
        result: list[Axis] = []
        for number, axis in enumerate(axes):
            if number not in numbers:
                result.append(axis)
                continue
            if not summed:
                draft.fix(axis, f"{call.node.op_type} goes over it")
            result += [ONE] if kept else []
        draft.set_input(0, axes)
        draft.set_output(0, result)
        return draft.done()

    return rule


def along(
    default: int | tuple[int, ...] = -1, *, to_end: bool = False, index: int = -1
) -> AxisRule:
    """Operators that work along an axis, whose elements then depend on each other.

    Args:
        default: The axis where no attribute says it; several where there may be several.
        to_end: All axes from it on (Softmax before opset 13).
        index: The input that says the axis; -1 where an attribute does.
    """

    def rule(call: Call) -> Nest:
        draft = Draft(call)
        shape = call.shape()
        if index >= 0:
            numbers = call.integers("axis", index) or []
        elif isinstance(default, tuple):
            numbers = call.attribute("axes", []) or list(default)
        else:
            numbers = [call.attribute("axis", 1 if to_end and call.opset < 13 else default)]
        numbers = [number % len(shape) for number in numbers]
        if to_end and call.opset < 13:
            numbers = list(range(numbers[0], len(shape)))
        axes = draft.each(shape)
        for number in numbers:
            draft.fix(axes[number], f"{call.node.op_type} goes over it")
        draft.set_input(0, axes)
        for number, result in enumerate(call.outputs):
            if result is None or len(result) != len(axes):
                continue
            pairs = enumerate(zip(axes, result, strict=True))
            draft.set_output(
                number,
                [
                    draft.loop(size, why=draft.fixed[axis[0].loops[0]])
                    if k in numbers and size != shape[k]
                    else axis
                    for k, (axis, size) in pairs
                ],
            )
        return draft.done()

    return rule


def layer_norm(call: Call) -> Nest:
    """LayerNormalization and its kind: all axes from ``axis`` on are normalized over."""
    draft = Draft(call)
    shape = call.shape()
    first = call.attribute("axis", -1) % len(shape)
    axes = draft.each(shape)
    for axis in axes[first:]:
        draft.fix(axis, "it is normalized over")
    draft.set_input(0, axes)
    for index in range(1, len(call.inputs)):
        if call.has(index):
            given = call.shape(index)
            tail = axes[len(axes) - len(given) :] if given else []
            draft.set_input(
                index, [ONE if dim == 1 else axis for dim, axis in zip(given, tail, strict=True)]
            )
    for number, result in enumerate(call.outputs):
        if result is not None or number == 0:
            plain = number == 0 or len(result or ()) != len(axes) or result == shape
            draft.set_output(
                number, axes if plain else [*axes[:first], *[ONE] * (len(axes) - first)]
            )
    return draft.done()


def quantize(call: Call) -> Nest:
    """Q and DQ: parameters for the tensor, for an axis, or for blocks of an axis."""
    draft = Draft(call)
    shape = call.shape()
    axes = draft.each(shape)
    scale = call.inputs[1] if len(call.inputs) > 1 else ()
    if scale is None:
        raise Unknown("the rank of its scale is not known")
    at = call.attribute("axis", 1)
    blocks = call.attribute("block_size", 0)
    own: list[Axis] = [ONE] * len(scale)
    if blocks and len(scale) == len(shape):
        at %= len(shape)
        size = shape[at]
        if isinstance(size, int) and size % blocks:
            draft.fix(axes[at], "its last block is shorter")
            own = [*axes[:at], draft.loop(scale[at], why="it stands for blocks"), *axes[at + 1 :]]
        else:
            del draft.sizes[axes[at][0].loops[0]]
            outer = draft.loop(scale[at], "block_number")
            inner = draft.loop(blocks, why="parameters are shared by a block")
            axes[at] = (Piece((*outer[0].loops, *inner[0].loops)),)
            own = [*axes[:at], outer, *axes[at + 1 :]]
    elif len(scale) == 1 and scale != (1,):
        own = [axes[at % len(shape)]]
    draft.set_input(0, axes)
    for index in (1, 2):
        given = call.inputs[index] if index < len(call.inputs) else None
        if given is not None:
            draft.set_input(index, own if len(given) == len(own) else [ONE] * len(given))
    draft.set_output(0, axes)
    return draft.done()


def window_axes(channels: int = 2) -> AxisRule:
    """Pooling and its kind: the first axes are shared, the rest slides or vanishes."""

    def rule(call: Call) -> Nest:
        draft = Draft(call)
        shape = call.shape()
        axes = draft.each(shape)
        for axis in axes[channels:]:
            draft.fix(axis, "a window slides over it")
        draft.set_input(0, axes)
        for number, result in enumerate(call.outputs):
            if result is not None and len(result) == len(shape):
                rest = draft.each(result[channels:], "a window slides over it")
                draft.set_output(number, [*axes[:channels], *rest])
        return draft.done()

    return rule
