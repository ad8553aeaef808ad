"""Nodes chosen by patterns: their name, their operator type, or a word for a kind of layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

from onnx import NodeProto

from graphopt.facts.node_kinds import NODE_KINDS
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.options import close_names

__all__ = ["exactly", "nearest", "select", "unmatched"]


def select(
    graph: Graph, nodes: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Callable[[NodeProto], bool]:
    """A test that says whether a node is chosen, by its label, operator type or kind.

    ``*``, ``?`` and ``[...]`` are wildcards as in ``fnmatch``; ``*`` runs across ``/``, and case
    counts. A name that holds brackets itself is found by its exact text too. A word of
    ``NODE_KINDS`` chooses the layers of that kind as they are in the graph now, and no node by
    its name: one that is called so is found by a wildcard, as ``firs[t]``.

    Args:
        graph: The graph of the nodes.
        nodes: Patterns of which one must match; none given means every node.
        exclude: Patterns of which none may match.
    """
    wanted, unwanted = _matched_by(graph, nodes), _matched_by(graph, exclude)
    return lambda node: (not nodes or wanted(node)) and not unwanted(node)


def _matched_by(graph: Graph, patterns: Sequence[str]) -> Callable[[NodeProto], bool]:
    """A test that says whether any of the patterns matches a node of the graph."""
    kinds = [NODE_KINDS[each] for each in patterns if each in NODE_KINDS]
    of_kind = {_identity(node) for kind in kinds for node in kind.nodes(graph)}
    named = _named_by([each for each in patterns if each not in NODE_KINDS])
    return lambda node: _identity(node) in of_kind or named(label(node)) or named(str(node.op_type))


def _identity(node: NodeProto) -> tuple[str, ...]:
    """What a node and the same one in a copy of its graph have in common."""
    return (node.op_type, *node.output)


def _named_by(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A test that says whether any of the patterns matches a name."""
    wild = [translate(pattern) for pattern in patterns if any(c in pattern for c in "*?[")]
    exact, match = frozenset(patterns), re.compile("|".join(wild)).match
    return lambda name: name in exact or (bool(wild) and match(name) is not None)


def exactly(name: str) -> str:
    """A pattern for the node of a label, also where that is a word for a kind of layers.

    >>> exactly("conv1"), exactly("first")
    ('conv1', 'firs[t]')
    """
    return f"{name[:-1]}[{name[-1]}]" if name in NODE_KINDS else name


def unmatched(graph: Graph, patterns: Sequence[str]) -> list[str]:
    """Those of the patterns that match no node of the graph, bodies included."""
    if not patterns:
        return []
    names = _names(graph)
    present = frozenset(names)
    return [each for each in patterns if not _matches(graph, each, names, present)]


def _matches(graph: Graph, pattern: str, names: list[str], present: frozenset[str]) -> bool:
    if pattern in NODE_KINDS:
        return any(True for _ in NODE_KINDS[pattern].nodes(graph))
    return pattern in present or any(map(_named_by([pattern]), names))


def _names(graph: Graph) -> list[str]:
    """Labels of all nodes, then the operator types, each once."""
    nodes = [node for scope in graph.scopes() for node in scope.nodes]
    return list(dict.fromkeys([*map(label, nodes), *(str(node.op_type) for node in nodes)]))


def nearest(graph: Graph, pattern: str) -> str:
    """What to choose by instead of a pattern that matches nothing, in words.

    The up to three names, types and kinds of layers that look most like it; or, of a kind that the
    model has no layer of, what the word means.
    """
    known = _names(graph)
    if kind := NODE_KINDS.get(pattern):
        by_name = f"; the node of that name is {pattern[:-1] + f'[{pattern[-1]}]'!r}"
        return f": it means {kind.meaning}{by_name if pattern in known else ''}"
    known += [word for word, each in NODE_KINDS.items() if any(True for _ in each.nodes(graph))]
    bare = pattern.strip("*?")
    near = close_names(bare, known, count=3, cutoff=0.4)
    near += [name for name in known if bare and bare.lower() in name.lower()][: 3 - len(near)]
    return f"; nearest: {', '.join(repr(name) for name in dict.fromkeys(near))}" if near else ""
