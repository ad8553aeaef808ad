"""Which tensors of some float types hang together, so that they change their type together."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from onnx import NodeProto

from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op

__all__ = ["float_region"]


def float_region(
    graph: Graph, kinds: Collection[int], shapes: Shapes, around: Collection[str] | None = None
) -> set[str]:
    """The computed tensors of some element types that hang together with given ones.

    Two tensors hang together where one node reads or makes both, bodies included. Inputs of the
    model and constants join nothing: a Cast can stand behind them. A tensor of unknown type counts
    as one of the types.

    Args:
        graph: Only read.
        kinds: ONNX element types.
        shapes: Types of its tensors.
        around: The tensors to start from; None for all of these types.
    """
    ends = _ends(graph)
    groups = [
        names
        for scope in graph.scopes()
        for node in scope.nodes
        if (names := [n for n in _touched(scope, node) if n not in ends and _is(n, kinds, shapes)])
    ]
    by_name: dict[str, list[list[str]]] = {}
    for names in groups:
        for name in names:
            by_name.setdefault(name, []).append(names)
    if around is None:
        around = [n for n in by_name if (info := shapes.get(n)) and info.data_type in kinds]
    region, waiting = set[str](), [name for name in around if name in by_name]
    while waiting:
        name = waiting.pop()
        if name not in region:
            region.add(name)
            waiting += [each for names in by_name[name] for each in names if each not in region]
            by_name[name] = []
    return region


def _is(name: str, kinds: Collection[int], shapes: Shapes) -> bool:
    info = shapes.get(name)
    return info is None or info.data_type in (0, *kinds)


def _ends(graph: Graph) -> set[str]:
    """Inputs of the model and stored constants."""
    ends = set(graph.main.inputs)
    for scope in graph.scopes():
        ends.update(scope.initializers)
        ends.update(sparse.values.name for sparse in scope.proto.sparse_initializer)
        ends.update(node.output[0] for node in scope.nodes if is_op(node, "Constant"))
    return ends


def _touched(scope: Scope, node: NodeProto) -> Iterator[str]:
    """What a node reads and makes and, with bodies, what those take, read from around and give."""
    yield from filter(None, (*node.input, *node.output))
    for body in scope.children(node).values():
        yield from body.inputs
        yield from body.outputs
        yield from body.captures()
