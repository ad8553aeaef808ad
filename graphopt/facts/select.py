"""Nodes chosen by patterns on their name or operator type."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

from onnx import NodeProto

from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.options import close_names

__all__ = ["nearest", "select", "unmatched"]


def select(nodes: Sequence[str] = (), exclude: Sequence[str] = ()) -> Callable[[NodeProto], bool]:
    """A test that says whether a node is chosen, by its label or operator type.

    ``*``, ``?`` and ``[...]`` are wildcards as in ``fnmatch``; ``*`` runs across ``/``, and case
    counts. A name that holds brackets itself is found by its exact text too.

    Args:
        nodes: Patterns of which one must match; none given means every node.
        exclude: Patterns of which none may match.
    """
    wanted, unwanted = _named_by(nodes), _named_by(exclude)

    def chosen(node: NodeProto) -> bool:
        names = (label(node), str(node.op_type))
        return (not nodes or any(map(wanted, names))) and not any(map(unwanted, names))

    return chosen


def _named_by(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A test that says whether any of the patterns matches a name."""
    wild = [translate(pattern) for pattern in patterns if any(c in pattern for c in "*?[")]
    exact, match = frozenset(patterns), re.compile("|".join(wild)).match
    return lambda name: name in exact or (bool(wild) and match(name) is not None)


def unmatched(graph: Graph, patterns: Sequence[str]) -> list[str]:
    """Those of the patterns that match no node of the graph, bodies included."""
    if not patterns:
        return []
    names = _names(graph)
    present = frozenset(names)
    return [
        each for each in patterns if each not in present and not any(map(_named_by([each]), names))
    ]


def _names(graph: Graph) -> list[str]:
    """Labels of all nodes, then the operator types, each once."""
    nodes = [node for scope in graph.scopes() for node in scope.nodes]
    return list(dict.fromkeys([*map(label, nodes), *(str(node.op_type) for node in nodes)]))


def nearest(graph: Graph, pattern: str) -> str:
    """The up to three names and types that look most like the pattern, in words."""
    known = _names(graph)
    bare = pattern.strip("*?")
    near = close_names(bare, known, count=3, cutoff=0.4)
    near += [name for name in known if bare and bare.lower() in name.lower()][: 3 - len(near)]
    return f"; nearest: {', '.join(repr(name) for name in dict.fromkeys(near))}" if near else ""
