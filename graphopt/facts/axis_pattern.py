"""Axes of an operator written as a line of text, as in einops.

``batch (group in) *window, (group out) in *kernel -> batch (group out) *slide``: operands with
commas between, axes with blanks between; in brackets the loops of one axis, the outermost first,
and ``+`` between stretches that stand one behind the other. ``*name`` are as many axes as there
are left, ``3`` is a fixed loop of that size, ``?`` an axis that is not told apart, ``-`` an operand
of which nothing is said. An operand behind ``@`` may be a scalar or have size 1 instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from graphopt.facts.axes import ONE, Axis, Nest, Piece, Shape, Unknown, loops_of
from graphopt.facts.axis_rules import AxisRule, Call, Draft

__all__ = ["FIXED", "either", "pattern"]

FIXED = {
    "window": "a window slides over it",
    "slide": "a window slides over it",
    "kernel": "it lies within the window",
    "normal": "it is normalized over",
    "member": "it is normalized over",
    "time": "its steps follow each other in time",
    "all": "attention goes over it",
    "past": "attention goes over it",
    "keys": "attention goes over it",
    "width": "the scale of the attention follows from its size",
    "pooled": "a mean or maximum is taken over it",
    "gates": "the gates of a recurrent layer",
    "direction": "the directions of a recurrent layer",
    "block": "the operator states its size",
    "picked": "it is looked up by an index",
    "packed": "its values are packed in blocks",
    "label": "labels count along it",
    "state": "a state is carried along it",
    "number": "the operator states its size",
    "two": "keys and values lie on it",
    "unknown": "its elements are not told apart",
}
"""Names of loops that cannot lose a value, digits behind them aside, and why not."""


def pattern(text: str, **sizes: str | int | tuple[str, int]) -> AxisRule:
    """The rule that a line of text says.

    Args:
        text: See the module.
        sizes: Sizes of loops that the shapes do not tell: a number, the name of an attribute
            (with its default, else 0: not stated), which then counts the loop. ``A__B="name"``:
            the attribute counts loops A and B together.
    """
    before, after = (
        [operand.strip() for operand in side.split(",")] for side in text.split(" -> ")
    )

    def rule(call: Call) -> Nest:
        draft = Draft(call)
        totals = _stated(draft, call, sizes)
        stars: dict[str, int] = {}
        inputs = _expanded(before, call.inputs, draft, stars)
        made = [bool(name) for name in call.node.output]
        outputs = _expanded(after, call.outputs, draft, stars, made)
        _solve([*inputs, *outputs], [*call.inputs, *call.outputs], totals, draft)
        for index, axes in enumerate(inputs):
            if axes is not None:
                draft.set_input(index, axes)
        for index, axes in enumerate(outputs):
            if axes is not None:
                draft.set_output(index, axes)
        return draft.done()

    return rule


def _stated(
    draft: Draft, call: Call, sizes: Mapping[str, str | int | tuple[str, int]]
) -> list[tuple[Axis, int]]:
    """Sizes that attributes state, noted as counts; products of loops to be solved."""
    totals: list[tuple[Axis, int]] = []
    for loops, said in sizes.items():
        axis = (Piece(tuple(loops.split("__"))),)
        if isinstance(said, int):
            totals.append((axis, said))
            continue
        name, default = said if isinstance(said, tuple) else (said, 0)
        value = int(call.attribute(name, default))
        if value:
            totals.append((axis, value))
            if call.where(name, 0) == name or default == 1:
                draft.counts[name] = (axis,)
    return totals


def _expanded(
    operands: Sequence[str],
    shapes: Sequence[Shape | None],
    draft: Draft,
    stars: dict[str, int],
    made: Sequence[bool] = (),
) -> list[list[Axis] | None]:
    """The axes of each operand that the node has, stars written out.

    Args:
        operands: The texts.
        shapes: Of the operands.
        draft: Gets the loops.
        stars: How many axes each star is, as the inputs tell; filled.
        made: Which of the operands are results that have axes though their shape is not known.
    """
    expanded: list[list[Axis] | None] = []
    for index, (text, shape) in enumerate(
        zip([*operands, *["-"] * len(shapes)], shapes, strict=False)
    ):
        items = re.findall(r"\([^)]*\)|\S+", text.removeprefix("@"))
        starred = [item[1:] for item in items if item.startswith("*")]
        told = index < len(made) and made[index] and all(name in stars for name in starred)
        if text == "-" or (shape is None and not told):
            expanded.append(None)
            continue
        if shape is None:
            spare = sum(stars[name] for name in starred)
        elif text.startswith("@") and (not shape or set(shape) == {1}):
            expanded.append([ONE] * len(shape))
            continue
        else:
            spare = len(shape) - sum(not item.startswith("*") for item in items)
            if spare < 0 or (spare and not starred):
                raise Unknown(f"an operand has rank {len(shape)}")
            stars.update(dict.fromkeys(starred, spare))
        axes: list[Axis] = []
        for item in items:
            if item.startswith("*"):
                axes += [_axis(f"{item[1:]}{number}", draft) for number in range(spare)]
            else:
                axes.append(_axis(item.strip("()"), draft))
        expanded.append(axes)
    return expanded


def _axis(text: str, draft: Draft) -> Axis:
    pieces = []
    for stretch in text.split("+"):
        loops: list[str] = []
        for word in stretch.split():
            if word == "?":
                loops += draft.loop(None, "unknown", FIXED["unknown"])[0].loops
                continue
            name = f"number{word}" if word.isdigit() else word
            if name not in draft.sizes:
                draft.sizes[name] = int(word) if word.isdigit() else None
                reason = FIXED.get(name.rstrip("0123456789"))
                if reason:
                    draft.fixed[name] = reason
            loops.append(name)
        pieces.append(Piece(tuple(loops)))
    return tuple(pieces)


def _solve(
    operands: Sequence[Sequence[Axis] | None],
    shapes: Sequence[Shape | None],
    totals: Sequence[tuple[Axis, int]],
    draft: Draft,
) -> None:
    """Sizes of the loops from the lengths of the axes; what cannot be told stays None."""
    equations: list[tuple[Axis, object]] = list(totals)
    for axes, shape in zip(operands, shapes, strict=False):
        equations += list(zip(axes or (), shape or (), strict=False))
    sizes = draft.sizes
    for axis, _ in totals:
        for loop in axis[0].loops:
            sizes.setdefault(loop, None)
    for _ in equations:
        before = dict(sizes)
        for axis, length in equations:
            _learn(axis, length, sizes)
        if sizes == before:
            return


def _learn(axis: Axis, length: object, sizes: dict[str, int | str | None]) -> None:
    """One loop of an axis from its length, where everything else is known."""
    if not isinstance(length, int):
        if isinstance(length, str) and axis[:1] == axis and len(axis[0].loops) == 1:
            loop = axis[0].loops[0]
            sizes[loop] = sizes[loop] if sizes[loop] is not None else length
        return
    open_ = [loop for loop in loops_of(axis) if not isinstance(sizes[loop], int)]
    if len(open_) != 1:
        return
    rest, factor = length, 0
    for piece in axis:
        product = 1
        for loop in piece.loops:
            size = sizes[loop]
            product *= size if isinstance(size, int) and loop != open_[0] else 1
        if open_[0] in piece.loops:
            factor += product
        else:
            rest -= product
    if factor and rest % factor == 0:
        sizes[open_[0]] = rest // factor


def either(*rules: AxisRule) -> AxisRule:
    """The first of some rules whose operands have the ranks that it writes."""

    def rule(call: Call) -> Nest:
        reason = Unknown("the ranks of its operands fit no form of it")
        for one in rules:
            try:
                return one(call)
            except Unknown as err:
                reason = err
        raise reason

    return rule
