"""Who makes and who reads each tensor: names without a maker, names made twice, cycles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from onnx import NodeProto

from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op, label
from graphopt.graph.order import is_cyclic

__all__ = ["miswired", "twice_made"]


def miswired(graph: Graph) -> Iterator[str]:
    """Names that are made twice or by nothing, and cycles; in bodies too, a sentence each."""
    yield from _miswired(graph.main, [])


def _miswired(scope: Scope, around: list[set[str]]) -> Iterator[str]:
    """Faults of a scope and of the bodies in it; ``around`` are the names outside, inmost last."""
    where = f" in {_escaped(scope.path)}" if scope.path else ""
    given = [*scope.inputs, *_constants(scope)]
    made = {*given, *(name for node in scope.nodes for name in node.output if name)}
    visible = [*around, made]
    for text in chain(_listed_twice(scope), twice_made(scope.nodes, given)):
        yield f"{text}{where}"
    for node in scope.nodes:
        for name in node.input:
            if name and not any(name in names for names in visible):
                yield f"node {label(node)!r} reads {name!r}, which nothing computes{where}"
    for name in scope.outputs:
        if not any(name in names for names in visible):
            yield f"output {name!r} is computed by nothing{where}"
    if is_cyclic(scope):
        yield f"nodes read their own outputs (a cycle){where}"
    for bodies in scope.bodies.values():
        for name, body in bodies.items():
            owner = body.owner
            if owner is not None and is_op(owner, "If") and len(body.outputs) != len(owner.output):
                yield (
                    f"node {label(owner)!r} has {len(owner.output)} outputs, "
                    f"its {name} {len(body.outputs)}{where}"
                )
            yield from _miswired(body, visible)


def _escaped(path: str) -> str:
    """A path that stays on its line whatever the names in it are."""
    return repr(path)[1:-1]


def _constants(scope: Scope) -> Iterator[str]:
    yield from scope.initializers
    yield from (sparse.values.name for sparse in scope.proto.sparse_initializer)


def _listed_twice(scope: Scope) -> Iterator[str]:
    inputs = scope.inputs
    if len(set(inputs)) < len(inputs):
        name = next(name for name, count in Counter(inputs).items() if count > 1)
        yield f"input {name!r} is listed twice"


def twice_made(nodes: Iterable[NodeProto], given: Iterable[str]) -> Iterator[str]:
    """Outputs that have the name of another output, or of a tensor that is given."""
    seen = set(given)
    for node in nodes:
        for name in node.output:
            if name in seen:
                yield f"node {label(node)!r} defines {name!r} a second time"
            if name:
                seen.add(name)
