"""Axes of the operators that compute: elementwise, along an axis, and sums of products."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.facts.axes import ONE, Axis, AxisRule, Call, Draft, Nest, Piece, Shape, Unknown
from graphopt.facts.shapes import Dim

__all__ = [
    "AxisRule",
    "along",
    "broadcast",
    "by_attribute",
    "by_version",
    "einsum",
    "first",
    "gemm",
    "last",
    "layer_norm",
    "matmul",
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


def _joined(draft: Draft, shapes: Sequence[Shape]) -> tuple[list[Axis], list[list[Axis]]]:
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
    result, operands = _joined(draft, [call.shape(index) for index in present])
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
        result, operands = _joined(draft, [call.shape(index) for index in inputs])
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
        if result is not None:
            plain = number == 0 or len(result) != len(axes) or result == shape
            draft.set_output(
                number, axes if plain else [*axes[:first], *[ONE] * (len(axes) - first)]
            )
    return draft.done()


def matmul(*, left: int = 0, right: int = 1, bias: int = -1) -> AxisRule:
    """Matrix products as numpy does them, FusedMatMul with its transpositions.

    Args:
        left: Which input is the left operand.
        right: Which is the right one; those between are its and the other's parameters.
        bias: Which is added, one value for each column.
    """

    def rule(call: Call) -> Nest:
        draft = Draft(call)
        shapes = [call.shape(left), call.shape(right)]
        if any(call.attribute(name, 0) for name in ("transBatchA", "transBatchB")):
            raise Unknown("a batch is transposed")
        turned = [call.attribute(name, 0) for name in ("transA", "transB")]
        flip = [bool(t) and len(s) > 1 for t, s in zip(turned, shapes, strict=True)]
        a, b = shapes
        inner = [
            a[-2] if flip[0] else a[-1],
            b[-1] if flip[1] or len(b) == 1 else b[-2],
        ]
        known = [dim for dim in inner if isinstance(dim, int)]
        summed = draft.loop(known[0] if known else inner[0], "in")
        batch, parts = _joined(draft, [shape[:-2] for shape in shapes])
        row = [draft.loop(a[-1] if flip[0] else a[-2], "row")] if len(a) > 1 else []
        out = [draft.loop(b[-2] if flip[1] else b[-1], "out")] if len(b) > 1 else []
        pair_a = [*row, summed]
        pair_b = [summed, *out]
        draft.set_input(left, [*parts[0], *(pair_a[::-1] if flip[0] else pair_a)])
        draft.set_input(right, [*parts[1], *(pair_b[::-1] if flip[1] else pair_b)])
        result = [*batch, *row, *out]
        draft.set_output(0, result)
        _columns(draft, call, {left, right, bias}, result, bool(out))
        if bias >= 0 and call.has(bias) and out:
            draft.set_input(bias, out)
        return draft.done()

    return rule


def _columns(draft: Draft, call: Call, known: set[int], result: list[Axis], out: bool) -> None:
    """Scales and zero points: scalars, or one value for each column."""
    for index in range(len(call.inputs)):
        shape = call.inputs[index]
        if index in known or not shape or not out:
            continue
        size = draft.sizes[result[-1][0].loops[0]]
        if len(shape) == 1:
            draft.set_input(index, [result[-1] if shape[0] == size != 1 else ONE])


def gemm(*, left: int = 0, right: int = 1, bias: int = 2) -> AxisRule:
    """``row in``, ``in out`` and a bias that is broadcast; QGemm with its parameters between."""

    def rule(call: Call) -> Nest:
        draft = Draft(call)
        a, b = call.shape(left), call.shape(right)
        if call.attribute("transA", 0):
            a = a[::-1]
        if call.attribute("transB", 0):
            b = b[::-1]
        row, out = draft.loop(a[0], "row"), draft.loop(b[1], "out")
        summed = draft.loop(a[1] if isinstance(a[1], int) else b[0], "in")
        first, second = [row, summed], [summed, out]
        draft.set_input(left, first[::-1] if call.attribute("transA", 0) else first)
        draft.set_input(right, second[::-1] if call.attribute("transB", 0) else second)
        draft.set_output(0, [row, out])
        if call.has(bias) and call.inputs[bias] is not None:
            given = call.shape(bias)
            tail = [row, out][2 - len(given) :]
            draft.set_input(
                bias, [ONE if dim == 1 else axis for dim, axis in zip(given, tail, strict=True)]
            )
        _columns(draft, call, {left, right, bias}, [row, out], True)
        return draft.done()

    return rule


def einsum(call: Call) -> Nest:
    """The letters of the equation are the loops; a diagonal is fixed."""
    draft = Draft(call)
    before, arrow, after = call.attribute("equation", "").replace(" ", "").partition("->")
    terms = before.split(",")
    if not arrow:
        letters = sorted({c for c in before if c in string.ascii_letters and before.count(c) == 1})
        after = ("..." if "..." in before else "") + "".join(letters)
    loops: dict[str, Axis] = {}
    covered: list[Shape] = []
    for index, term in enumerate(terms):
        shape, head = call.shape(index), term.partition("...")[0]
        spare = len(shape) - len(term.replace("...", ""))
        covered.append(shape[len(head) : len(head) + spare] if "..." in term else ())
        dims = [
            *shape[: len(head)],
            *(shape[len(head) + spare :] if "..." in term else shape[len(head) :]),
        ]
        for letter, size in zip(term.replace("...", ""), dims, strict=True):
            if letter not in loops:
                loops[letter] = draft.loop(size, letter)
            name = loops[letter][0].loops[0]
            if not isinstance(draft.sizes[name], int):
                draft.sizes[name] = size
            if term.count(letter) > 1 or (size == 1) != (draft.sizes[name] == 1):
                draft.fix(loops[letter], "Einsum takes a diagonal of it or repeats it")
    dots, parts = _joined(draft, covered)
    for index, term in enumerate(terms):
        draft.set_input(index, _spelled(term, loops, parts[index]))
    draft.set_output(0, _spelled(after, loops, dots))
    return draft.done()


def _spelled(term: str, loops: dict[str, Axis], dots: Sequence[Axis]) -> list[Axis]:
    head, found, tail = term.partition("...")
    return [*(loops[c] for c in head), *(dots if found else ()), *(loops[c] for c in tail)]


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
