"""Rows that lie in the order of their values: what TopK picks, and what is looked up by that."""

from __future__ import annotations

import numpy as np

from graphopt.facts.operator import Kind
from graphopt.facts.operators import is_kind
from graphopt.graph.graph import Scope
from graphopt.graph.node import is_op

__all__ = ["ordered_rows"]

_FOLLOWS: tuple[Kind, ...] = ("elementwise", "cast", "view", "permute", "repeat", "select", "join")


def ordered_rows(scope: Scope) -> dict[str, int]:
    """Tensors whose entries TopK put in order, with how many it picks, where all is picked alike.

    That is so where computed values are looked up by what TopK picked, as the boxes of a detector
    are by the best scores; a classifier that ends in its best classes alone keeps their places.
    """
    picked = dict[str, int]()
    looked_up = set[str]()
    for node in scope.nodes:
        if is_op(node, "TopK"):
            count = scope.constant(node.input[1])
            values = None if count is None else np.ravel(count.values)
            if values is not None and len(values) == 1:
                picked.update(dict.fromkeys(node.output, int(values[0])))
            continue
        given = [name for name in node.input if name in picked]
        if not given:
            continue
        if is_op(node, "Gather", "GatherElements", "GatherND") and node.input[1] in picked:
            if scope.constant(node.input[0]) is None and node.input[0] not in picked:
                looked_up.add(node.output[0])
            picked[node.output[0]] = picked[node.input[1]]
        elif is_kind(node, *_FOLLOWS):
            picked.update(dict.fromkeys(node.output, picked[given[0]]))
            if not looked_up.isdisjoint(given):
                looked_up.update(node.output)
    counts = {picked[name] for name in scope.outputs if name in looked_up}
    return {name: count for name, count in picked.items() if count in counts and count > 1}
