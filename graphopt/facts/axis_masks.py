"""Masks and biases of attention that have values of their own for each head."""

from __future__ import annotations

from dataclasses import replace

from graphopt.facts.axes import ONE, Axis, Nest, Piece, Unknown
from graphopt.facts.axis_rules import AxisRule, Call

__all__ = ["per_head"]

_SCORES = ("masked_keys", "masked_time")
"""Loops of the last two axes, the last one first."""


def per_head(rule: AxisRule, index: int, heads: str, *, alone: int = 0) -> AxisRule:
    """The rule of an attention operator with the axis of its heads in what it adds to the scores.

    Args:
        rule: Of all other operands.
        index: The input that is added: ``batch heads time keys``, each axis full or 1, axes in
            front may be missing.
        heads: The loops that make the heads, as in a pattern.
        alone: An input with one value for each head; 0 for none.
    """
    axis: Axis = (Piece(tuple(heads.split())),)

    def masked(call: Call) -> Nest:
        nest = rule(call)
        inputs, sizes, fixed = list(nest.inputs), dict(nest.sizes), dict(nest.fixed)
        if call.has(index):
            axes: list[Axis] = []
            for place, size in enumerate(reversed(call.shape(index))):
                if size == 1:
                    axes.append(ONE)
                elif place < len(_SCORES):
                    loop = _SCORES[place]
                    sizes[loop], fixed[loop] = size, "attention goes over it"
                    axes.append((Piece((loop,)),))
                else:
                    first = (nest.inputs[0] or (ONE,))[0]
                    axes.append(_counted(axis, nest) if place == len(_SCORES) else first)
            inputs[index] = tuple(reversed(axes))
        if alone and call.has(alone):
            inputs[alone] = (_counted(axis, nest),)
        return replace(nest, inputs=tuple(inputs), sizes=sizes, fixed=fixed)

    return masked


def _counted(axis: Axis, nest: Nest) -> Axis:
    """The axis of the heads.

    Raises:
        Unknown: How many there are is not known.
    """
    if nest.length(axis) is None:
        raise Unknown("how many heads there are is not known")
    return axis
