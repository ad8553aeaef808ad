"""Copies of scopes: with nodes of their own and the same tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from onnx import GraphProto, NodeProto

from graphopt.graph.scope import Scope

if TYPE_CHECKING:
    from graphopt.graph.graph import Graph

__all__ = ["copied_part", "copied_scope"]


def copied_scope(
    scope: Scope,
    graph: Graph,
    proto: GraphProto,
    parent: Scope | None = None,
    owner: NodeProto | None = None,
) -> Scope:
    """A scope of ``graph`` over ``proto`` with copies of the nodes and the same tensors."""
    twin = Scope(graph, proto, [], dict(scope.initializers), parent, owner)
    twin.value_infos.extend(scope.value_infos)
    twin.annotations.extend(scope.annotations)
    _copy_nodes(scope, scope.nodes, twin)
    return twin


def copied_part(scope: Scope, graph: Graph, proto: GraphProto, nodes: Sequence[NodeProto]) -> Scope:
    """The same with some nodes and what they read; no declared types, which may be stale."""
    twin = Scope(graph, proto, [], {})
    for name in dict.fromkeys(name for node in nodes for name in scope.reads(node)):
        if name in scope.initializers:
            twin.initializers[name] = scope.initializers[name]
    _copy_nodes(scope, nodes, twin)
    return twin


def _copy_nodes(scope: Scope, nodes: Iterable[NodeProto], twin: Scope) -> None:
    for node in nodes:
        copied = NodeProto()
        copied.CopyFrom(node)
        twin.nodes.append(copied)
        bodies = scope.children(node)
        if bodies:
            twin.bodies[id(copied)] = {
                attribute.name: copied_scope(
                    bodies[attribute.name], twin.graph, attribute.g, twin, copied
                )
                for attribute in copied.attribute
                if attribute.name in bodies
            }
