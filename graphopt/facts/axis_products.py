"""Axes of the operators that sum up products: MatMul, Gemm, Einsum and their kind."""

from __future__ import annotations

import string
from collections.abc import Sequence

from graphopt.facts.axes import ONE, Axis, Nest, Shape, Unknown
from graphopt.facts.axis_rules import AxisRule, Call, Draft
from graphopt.facts.axis_sums import joined

__all__ = ["einsum", "gemm", "matmul"]


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
        batch, parts = joined(draft, [shape[:-2] for shape in shapes])
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
    dots, parts = joined(draft, covered)
    for index, term in enumerate(terms):
        draft.set_input(index, _spelled(term, loops, parts[index]))
    draft.set_output(0, _spelled(after, loops, dots))
    return draft.done()


def _spelled(term: str, loops: dict[str, Axis], dots: Sequence[Axis]) -> list[Axis]:
    head, found, tail = term.partition("...")
    return [*(loops[c] for c in head), *(dots if found else ()), *(loops[c] for c in tail)]
