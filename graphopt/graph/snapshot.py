"""The state of a graph at one moment, to return to when a pass is rolled back."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.graph.graph import Graph

__all__ = ["Snapshot", "restore", "take"]


@dataclass(frozen=True)
class Snapshot:
    """A kept state; it shares its tensors with the graph it was taken of."""

    _graph: Graph


def take(graph: Graph) -> Snapshot:
    """Keep the state of ``graph``; costs a copy of its nodes, not of its weights."""
    return Snapshot(graph.copy())


def restore(graph: Graph, snapshot: Snapshot) -> None:
    """Put ``graph`` back into a kept state, any number of times.

    Scopes and nodes that were taken from ``graph`` before no longer belong to it.
    """
    graph.become(snapshot._graph)
