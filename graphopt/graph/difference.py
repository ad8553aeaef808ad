"""Where a copy of a graph that was edited begins to differ from it."""

from __future__ import annotations

from onnx import NodeProto

from graphopt.graph.graph import Graph
from graphopt.graph.scope import Scope

__all__ = ["first_difference"]


def first_difference(before: Graph, after: Graph) -> NodeProto | None:
    """The first node of a graph that is another in an edited copy, or reads another constant.

    All that the nodes in front of it compute is the same in both. What shares the message of a
    constant, as copies do, has the same constant.

    Args:
        before: The graph, whose node is given.
        after: The copy; its local functions are those of the graph.

    Returns:
        None where no node of the graph differs; the copy may have more of them behind.
    """
    theirs = after.main.nodes
    for place, node in enumerate(before.main.nodes):
        if place == len(theirs) or not _alike(before.main, node, after.main, theirs[place]):
            return node
    return None


def _alike(scope: Scope, node: NodeProto, other_scope: Scope, other: NodeProto) -> bool:
    """Whether nodes do the same to tensors of the same names."""
    if node != other:
        return False
    for name in scope.reads(node):
        ours, theirs = scope.initializers.get(name), other_scope.initializers.get(name)
        if ours is not theirs or scope.sparse(name) != other_scope.sparse(name):
            return False
    bodies, other_bodies = scope.children(node), other_scope.children(other)
    return all(
        len(body.nodes) == len(other_bodies[key].nodes)
        and all(
            _alike(body, inner, other_bodies[key], twin)
            for inner, twin in zip(body.nodes, other_bodies[key].nodes, strict=True)
        )
        for key, body in bodies.items()
    )
