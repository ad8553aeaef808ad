"""The part of a graph that computes some of its tensors."""

from __future__ import annotations

from collections.abc import Collection

from graphopt.graph.declared import ValueInfos
from graphopt.graph.graph import Graph

__all__ = ["extract"]


def extract(graph: Graph, tensors: Collection[str]) -> Graph:
    """A copy of ``graph`` with the nodes and weights that ``tensors`` depend on, without outputs.

    Required inputs stay, needed or not, so that the same feeds fit. Weights are shared.

    Args:
        graph: Left as it is.
        tensors: Names of tensors of the main graph.
    """
    part = graph.copy()
    scope = part.main
    needed = {id(node) for node in scope.ancestors(tensors)}
    scope.remove([node for node in scope.nodes if id(node) not in needed])
    del scope.proto.output[:]
    scope.value_infos = ValueInfos()  # onnxruntime refuses a stale one; it infers them anew
    scope.touch()
    kept = set(tensors)
    unread = [name for name in scope.initializers if name not in kept and not scope.is_read(name)]
    scope.drop_initializer(*unread)
    return part
