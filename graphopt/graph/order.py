"""The order in which nodes are written: producers before readers, else as they were."""

from __future__ import annotations

from onnx import NodeProto

from graphopt.graph.scope import Scope

__all__ = ["sorted_nodes"]


def sorted_nodes(scope: Scope) -> list[NodeProto]:
    """The nodes so that each comes after those it reads; the order is kept where it is valid."""
    made = {out for node in scope.nodes for out in node.output if out}
    done: set[str] = set()
    waiting: dict[str, list[int]] = {}
    missing: list[int] = []
    order: list[NodeProto] = []
    for index, node in enumerate(scope.nodes):
        reads = {name for name in node.input if name in made}
        for body in scope.children(node).values():
            reads |= {name for name in body.captures() if name in made}
        lacking = reads - done
        missing.append(len(lacking))
        for name in lacking:
            waiting.setdefault(name, []).append(index)
        if not lacking:
            _release(index, scope.nodes, order, done, waiting, missing)
    if len(order) != len(scope.nodes):  # a cycle: the checker names it better than we could
        return list(scope.nodes)
    return order


def _release(
    first: int,
    nodes: list[NodeProto],
    order: list[NodeProto],
    done: set[str],
    waiting: dict[str, list[int]],
    missing: list[int],
) -> None:
    """Put a node in order, then every earlier one that waited for its outputs only."""
    ready = [first]
    while ready:
        node = nodes[ready.pop()]
        order.append(node)
        for out in node.output:
            done.add(out)
            for index in waiting.pop(out, ()):
                missing[index] -= 1
                if missing[index] == 0:
                    ready.append(index)
