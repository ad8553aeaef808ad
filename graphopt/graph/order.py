"""The order in which nodes are written: producers before readers, else as they were."""

from __future__ import annotations

import heapq

from onnx import NodeProto

from graphopt.graph.scope import Scope

__all__ = ["is_cyclic", "sorted_nodes"]


def sorted_nodes(scope: Scope) -> list[NodeProto]:
    """The nodes so that each comes after those it reads; the order is kept where it is valid.

    What a node's bodies read from this scope counts as read by the node. Nodes that read, in a
    circle, their own results come last, as they were.
    """
    order = _order(scope)
    placed = {id(node) for node in order}
    return [*order, *(node for node in scope.nodes if id(node) not in placed)]


def is_cyclic(scope: Scope) -> bool:
    """Whether some nodes of the scope read, in a circle, their own results."""
    return len(_order(scope)) != len(scope.nodes)


def _order(scope: Scope) -> list[NodeProto]:
    """The nodes that can be computed, in order."""
    made = {out: index for index, node in enumerate(scope.nodes) for out in node.output if out}
    readers: dict[int, list[int]] = {}
    waiting = [0] * len(scope.nodes)
    for index, node in enumerate(scope.nodes):
        for source in {made[name] for name in scope.reads(node) if name in made}:
            readers.setdefault(source, []).append(index)
            waiting[index] += 1
    ready = [index for index, count in enumerate(waiting) if not count]
    order: list[NodeProto] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(scope.nodes[index])
        for reader in readers.get(index, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    return order
