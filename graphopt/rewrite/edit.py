"""Surgery on a scope that several passes need."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from graphopt.graph.graph import Graph, Scope, Use
from graphopt.graph.node import label
from graphopt.graph.order import sorted_nodes

__all__ = [
    "bypass",
    "forget",
    "only_reader",
    "redirect",
    "remove_dead",
    "rename_output",
]


def only_reader(scope: Scope, name: str) -> Use | None:
    """The one place that reads ``name``; None for none, several, or an output of the scope."""
    use = scope.only_use(name)
    return use if use is not None and use.index >= 0 and not scope.is_output(name) else None


def redirect(uses: Iterable[Use], name: str) -> None:
    """Let these uses, and no others, read ``name``."""
    for use in list(uses):
        if use.index >= 0:
            use.scope.set_input(use.node, use.index, name)


def rename_output(scope: Scope, node: NodeProto, old: str, new: str) -> None:
    """Call an output of ``node`` ``new`` instead of ``old``, for all its readers."""
    index = list(node.output).index(old)
    scope.replace_uses(old, new)
    scope.set_output(node, index, new)
    scope.annotations.rename(old, new)
    if scope.is_output(new):  # which are declared already
        forget(scope, [old])
    scope.value_infos.rename(old, new)


def bypass(scope: Scope, node: NodeProto, source: str, output: str) -> bool:
    """Remove ``node`` and let whoever reads its ``output`` read ``source`` instead.

    Where ``output`` is an output of the scope, its name has to stay: the node that computes
    ``source`` then computes it under that name.

    Returns:
        False, with nothing done, where that cannot be: ``source`` is an input, a constant, an
        output too or from an outer scope, or a body hands ``output`` out under its own name.
    """
    if any(use.index < 0 for use in scope.any_uses(output)):
        return False
    if not scope.is_output(output):
        scope.replace_uses(output, source)
        scope.remove([node])
        forget(scope, node.output)
        return True
    maker = scope.producer(source)
    if maker is None or scope.is_output(source):
        return False
    if any(use.index < 0 for use in scope.any_uses(source)):
        return False
    scope.remove([node])
    scope.replace_uses(output, source)
    forget(scope, [output])
    rename_output(scope, maker, source, output)
    return True


def forget(scope: Scope, names: Iterable[str]) -> None:
    """Drop the declared types and annotations of tensors that are no more."""
    for name in filter(None, names):
        scope.value_infos.drop(name)
        scope.annotations.drop(name)


def remove_dead(graph: Graph) -> list[str]:
    """Remove nodes and initializers that no output depends on, in bodies too.

    Inputs and outputs stay as they are, but for inputs that are the listing of a removed
    initializer. Nodes of local functions are not looked at.

    Returns:
        Labels of the nodes and names of the initializers that went.
    """
    return _sweep(graph.main)


def _sweep(scope: Scope) -> list[str]:
    """Clean one scope, from its outputs back, and the bodies of the nodes that stay."""
    removed: list[str] = []
    dead: list[NodeProto] = []
    needed = set(scope.outputs)
    for node in reversed(sorted_nodes(scope)):
        if not any(name and name in needed for name in node.output):
            dead.append(node)
            continue
        for body in scope.children(node).values():
            removed += _sweep(body)
        needed.update(scope.reads(node))
    scope.remove(dead)
    held = [*scope.initializers, *(each.values.name for each in scope.proto.sparse_initializer)]
    unread = [name for name in held if name not in needed]
    scope.drop_initializer(*unread)
    forget(scope, [*unread, *(name for node in dead for name in node.output)])
    return [*removed, *map(label, dead), *unread]
