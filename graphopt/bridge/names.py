"""One name for every constant of a model, in its bodies too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphopt.graph.constant import constants_of
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import label

__all__ = ["constants", "names_of", "scopes"]


def scopes(graph: Graph) -> Iterator[tuple[str, Scope]]:
    """Every scope with what stands before the names of its tensors; nothing for the main graph."""
    yield from _below("", graph.main)


def _below(prefix: str, scope: Scope) -> Iterator[tuple[str, Scope]]:
    yield prefix, scope
    for node in scope.nodes:
        for attribute, body in scope.children(node).items():
            yield from _below(f"{prefix}{label(node)}.{attribute}/", body)


def constants(graph: Graph) -> dict[str, Constant]:
    """All initializers and Constant nodes by name.

    In the main graph the name is the tensor's own. In a body the owner and its attribute stand in
    front, as two branches may use the same name. What still has no name of its own is left out.
    """
    found: dict[str, Constant] = {}
    twice: set[str] = set()
    for prefix, scope in scopes(graph):
        for constant in constants_of(scope):
            name = prefix + constant.origin
            if name in found:
                twice.add(name)
            found[name] = constant
    return {name: constant for name, constant in found.items() if name not in twice}


def names_of(graph: Graph, wanted: Iterable[Constant]) -> list[str | None]:
    """The names that ``constants`` gives to some constants of the graph; None for one without."""
    known = {(id(each.scope), each.origin): name for name, each in constants(graph).items()}
    return [known.get((id(each.scope), each.origin)) for each in wanted]
