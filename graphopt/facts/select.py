"""Nodes chosen by patterns on their name or operator type."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from onnx import NodeProto

from graphopt.errors import UsageError
from graphopt.graph.graph import Graph
from graphopt.graph.node import label

__all__ = ["matches", "select"]


def matches(node: NodeProto, pattern: str) -> bool:
    """Whether a pattern names the node: its label or operator type, exactly or by wildcards.

    ``*``, ``?`` and ``[...]`` are wildcards as in ``fnmatch``; ``*`` runs across ``/``, and case
    counts. A name that holds brackets itself is found by its exact text too.
    """
    names = (label(node), str(node.op_type))
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)


def select(
    graph: Graph, nodes: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Callable[[NodeProto], bool]:
    """A test that says whether a node of ``graph``, bodies included, is chosen.

    Args:
        graph: The model that the patterns speak of.
        nodes: Patterns of which one must match; none given means every node.
        exclude: Patterns of which none may match.

    Raises:
        UsageError: A pattern matches no node; the nearest names are in the message.
    """
    present = [node for scope in graph.scopes() for node in scope.nodes]
    for pattern in (*nodes, *exclude):
        if not any(matches(node, pattern) for node in present):
            raise UsageError(f"pattern {pattern!r} matches no node{_nearest(pattern, present)}")

    def chosen(node: NodeProto) -> bool:
        if nodes and not any(matches(node, pattern) for pattern in nodes):
            return False
        return not any(matches(node, pattern) for pattern in exclude)

    return chosen


def _nearest(pattern: str, present: Sequence[NodeProto]) -> str:
    """The up to three names and types that look most like the pattern, in words."""
    known = list(dict.fromkeys([*(label(n) for n in present), *(n.op_type for n in present)]))
    bare = pattern.strip("*?")
    near = difflib.get_close_matches(bare, known, n=3, cutoff=0.4)
    near += [name for name in known if bare and bare.lower() in name.lower()][: 3 - len(near)]
    return f"; nearest: {', '.join(repr(name) for name in dict.fromkeys(near))}" if near else ""
