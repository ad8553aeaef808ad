"""Attention heads: what products of two computed tensors are done apart for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from graphopt.analysis.knots import Ints, Knot
from graphopt.facts.axes import Unknown, loops_of
from graphopt.facts.operators import find
from graphopt.graph.graph import Scope
from graphopt.rewrite.shrunk import Place

__all__ = ["are_heads", "head_numbers"]


def head_numbers(scope: Scope, knots: Sequence[Knot]) -> dict[Place, Ints]:
    """For each axis that attention runs over head by head, the head of each position.

    Such are the axes that both factors of a product share with the result, where neither is a
    constant, and those of an operator of attention that queries share with the keys; batches among
    them, which nobody can cut.

    Args:
        scope: The main graph.
        knots: Its nodes with their loops.
    """
    found: dict[Place, Ints] = {}
    for knot in knots:
        for loop in _apart(scope, knot):
            for name, number, axis in knot.operands:
                if loop not in loops_of(axis) or (name, number) in found:
                    continue
                try:
                    found[name, number] = knot.nest.values_at(axis, loop)
                except Unknown:
                    continue
    return found


def are_heads(
    positions: Mapping[Place, Sequence[Sequence[int]]], numbers: Mapping[Place, Ints]
) -> bool:
    """Whether units are heads, or some together: on an axis of heads each head is in one of them.

    Args:
        positions: Of the units, for each axis that holds them.
        numbers: See ``head_numbers``.
    """
    for place, units in positions.items():
        if place not in numbers:
            continue
        unit = np.repeat(np.arange(len(units)), [len(held) for held in units])
        flat = np.array([position for held in units for position in held], np.intp)
        head = numbers[place][flat]
        pairs = np.unique(np.stack([head, unit]), axis=1)
        if (head >= 0).all() and len(np.unique(head)) == pairs.shape[1]:
            return True
    return False


def _apart(scope: Scope, knot: Knot) -> Iterator[str]:
    """Loops of a node that stand for heads."""
    row = find(knot.node)
    if row is None or row.kind not in ("product", "attention"):
        return
    read, result = knot.nest.inputs, knot.nest.outputs[0]
    if row.kind == "product":
        factors = [at for at, axes in enumerate(read) if axes is not None][:2]
        if any(scope.constant(knot.node.input[at]) is not None for at in factors):
            return
    else:
        factors = [*(row.data or ()), *row.weights][1:2]
    operands = [result, *(read[at] if at < len(read) else None for at in factors)]
    if len(operands) < 2 or any(axes is None for axes in operands):
        return
    shared = set.intersection(
        *({loop for axis in axes or () for loop in loops_of(axis)} for axes in operands)
    )
    yield from (loop for loop in knot.nest.loops if loop in shared)
