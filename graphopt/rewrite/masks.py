"""Constants that only mask what a Softmax sees, brought into a smaller range."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from graphopt.facts.operators import Kind, is_kind
from graphopt.graph.constant import Constant, constants_of
from graphopt.graph.graph import Graph, Scope

__all__ = ["bound_masks"]

_HANDS_ON: tuple[Kind, ...] = ("elementwise", "cast", "view", "permute", "repeat", "select", "join")


def bound_masks(graph: Graph, largest: float, bound: float) -> list[tuple[str, str]]:
    """Let masks of a Softmax lie within a range, where they lie below it.

        scores + Where(seen, 0, -3.4e38) -> Softmax   becomes   scores + Where(seen, 0, -8188) ...

    The exponential of what is masked stays 0, as long as the scores are not as large themselves.
    Changed is what is read on the way to a Softmax alone, over operators that work element by
    element or move elements, and whose values beyond the range are all negative.

    Args:
        graph: Edited in place.
        largest: Largest value of the range.
        bound: What values below the range become; at most 0.

    Returns:
        The names of the constants, and what they became.
    """
    edits = []
    for scope in graph.scopes():
        for constant in list(constants_of(scope)):
            if constant.data_type != TensorProto.FLOAT or constant.overridable:
                continue
            values = constant.values
            beyond = ~(np.abs(values) <= largest)
            if not beyond.any() or not (values[beyond] < 0).all() or not _masks(constant):
                continue
            constant.set(np.where(beyond, np.float32(bound), values).astype(np.float32))
            edits.append((constant.origin, f"masks with {bound:.6g}: it lay beyond the range"))
    return edits


def _masks(constant: Constant) -> bool:
    """Whether all that is computed from a constant ends in a Softmax."""
    waiting: list[tuple[Scope, str]] = [(constant.scope, constant.origin)]
    seen = set[tuple[int, str]]()
    ends = False
    while waiting:
        scope, name = waiting.pop()
        if (id(scope), name) in seen:
            continue
        seen.add((id(scope), name))
        if scope.is_output(name):
            return False
        for use in scope.uses(name):
            if use.index < 0:
                return False
            if is_kind(use.node, "softmax"):
                ends = True
            elif is_kind(use.node, *_HANDS_ON):
                waiting += [(use.scope, out) for out in _floats(use.node)]
            else:
                return False
    return ends


def _floats(node: NodeProto) -> list[str]:
    return [name for name in node.output if name]
