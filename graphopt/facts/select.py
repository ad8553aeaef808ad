"""Nodes chosen by patterns on their name or operator type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from onnx import NodeProto

from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.options import close_names

__all__ = ["matches", "nearest", "select", "unmatched"]


def matches(node: NodeProto, pattern: str) -> bool:
    """Whether a pattern names the node: its label or operator type, exactly or by wildcards.

    ``*``, ``?`` and ``[...]`` are wildcards as in ``fnmatch``; ``*`` runs across ``/``, and case
    counts. A name that holds brackets itself is found by its exact text too.
    """
    names = (label(node), str(node.op_type))
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)


def select(nodes: Sequence[str] = (), exclude: Sequence[str] = ()) -> Callable[[NodeProto], bool]:
    """A test that says whether a node is chosen.

    Args:
        nodes: Patterns of which one must match; none given means every node.
        exclude: Patterns of which none may match.
    """

    def chosen(node: NodeProto) -> bool:
        if nodes and not any(matches(node, pattern) for pattern in nodes):
            return False
        return not any(matches(node, pattern) for pattern in exclude)

    return chosen


def unmatched(graph: Graph, patterns: Sequence[str]) -> list[str]:
    """Those of the patterns that match no node of the graph, bodies included."""
    if not patterns:
        return []
    present = _present(graph)
    return [each for each in patterns if not any(matches(node, each) for node in present)]


def _present(graph: Graph) -> list[NodeProto]:
    return [node for scope in graph.scopes() for node in scope.nodes]


def nearest(graph: Graph, pattern: str) -> str:
    """The up to three names and types that look most like the pattern, in words."""
    present = _present(graph)
    known = list(dict.fromkeys([*(label(n) for n in present), *(n.op_type for n in present)]))
    bare = pattern.strip("*?")
    near = close_names(bare, known, count=3, cutoff=0.4)
    near += [name for name in known if bare and bare.lower() in name.lower()][: 3 - len(near)]
    return f"; nearest: {', '.join(repr(name) for name in dict.fromkeys(near))}" if near else ""
