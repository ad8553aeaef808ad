"""The patterns by which passes choose nodes, looked at before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.contract.passes import Changes, Pass
from graphopt.errors import UsageError
from graphopt.facts.select import nearest, unmatched
from graphopt.graph.graph import Graph
from graphopt.options import option_fields

__all__ = ["check_patterns", "skip_void"]


def check_patterns(passes: Iterable[Pass], graph: Graph) -> None:
    """Refuse a pattern that matches nothing in the model as it comes in.

    ``Type(tensor)`` counts where the tensor is there: an unnamed node gets that label once a pass
    has moved the tensor to it.

    Raises:
        UsageError: A pattern matches no node; the nearest names are in the message.
    """
    for item in passes:
        for pattern in unmatched(graph, _patterns(item)):
            _, bracket, tensor = pattern.removesuffix(")").partition("(")
            if not bracket or all(scope.producer(tensor) is None for scope in graph.scopes()):
                raise UsageError(f"pattern {pattern!r} matches no node{nearest(graph, pattern)}")


def skip_void(item: Pass, graph: Graph, changes: Changes) -> None:
    """Note the patterns of a pass that match nothing in the graph as passes before have left it."""
    for pattern in unmatched(graph, _patterns(item)):
        changes.skip(pattern, "no node of this name or type is left: a pass before took it")


def _patterns(item: Pass) -> list[str]:
    """The patterns in all options of a pass that are not its defaults, which fit many models."""
    asked = [each for each in option_fields(type(item)).values() if each.option.patterns]
    given = [(each.default, getattr(item, each.name)) for each in asked]
    return [pattern for default, value in given if value != default for pattern in value]
