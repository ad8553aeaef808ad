"""Local functions: who calls whom, and how large the model is once every call is unfolded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto

from graphopt.graph.node import DEFAULT_DOMAIN, plain_domain
from graphopt.graph.schemas import NEWEST_OPSET, misuse
from graphopt.graph.wiring import twice_made

__all__ = [
    "MOST_UNFOLDED",
    "UNFOLDED_BYTES",
    "UNFOLDED_NODES",
    "CallKey",
    "Unfolded",
    "call_key",
    "functions_of",
    "miscalled",
    "nested",
    "unfolded",
]

UNFOLDED_NODES = 1_000_000
"""Most nodes that calls may stand for. onnxruntime unfolds every call; the largest exports have
some 100,000 nodes."""
MOST_UNFOLDED = 50_000
"""Most nodes that calls may stand for where they are gone through one by one, here or in shape
inference, which takes it a second."""
UNFOLDED_BYTES = 2**31 - 1
"""Most bytes of nodes and constants that calls may stand for: what fits in one message."""

CallKey = tuple[str, str, str]
"""Domain, name and overload of a function."""


class Unfolded(NamedTuple):
    """Nodes, and bytes of these with their constants; one more than the bounds for any more."""

    nodes: int
    size: int


def miscalled(header: ModelProto, nodes: Collection[NodeProto]) -> Iterator[str]:
    """What is wrong with the local functions of a model, a sentence each.

    Functions that are there twice, that call themselves or each other, or that compute a name
    twice or not at all; calls that unfold to more than ``UNFOLDED_NODES`` or ``UNFOLDED_BYTES``.

    Args:
        header: Holds the functions.
        nodes: All nodes of the model's graphs, those of bodies included.
    """
    functions = functions_of(header)
    if len(functions) < len(header.functions):
        names = Counter(_name(_key_of(function)) for function in header.functions)
        yield f"function {names.most_common(1)[0][0]!r} is defined twice"
        return
    callees = _callees(functions)
    _, circle = _ordered(callees)
    if circle is not None:
        yield f"function {_name(circle)!r} calls itself, at once or through others"
        return
    called = {key for node in nodes if (key := call_key(node)) in functions}
    total = unfolded(header, nodes)
    if total.nodes > UNFOLDED_NODES:
        yield f"its functions unfold to more than {UNFOLDED_NODES:,} nodes"
    if total.size > UNFOLDED_BYTES:
        yield f"its functions unfold to more than {UNFOLDED_BYTES:,} bytes"
    yield from _bodies(functions, called, callees)


def unfolded(header: ModelProto, nodes: Iterable[NodeProto]) -> Unfolded:
    """What the calls in a model stand for; counted, not unfolded.

    Args:
        header: Holds the functions; none calls itself.
        nodes: All nodes of the model's graphs, those of bodies included.
    """
    functions = functions_of(header)
    callees = _callees(functions)
    sizes: dict[CallKey, Unfolded] = {}
    for key in _ordered(callees)[0]:  # callees first
        own = Unfolded(sum(1 for _ in nested(functions[key].node)), functions[key].ByteSize())
        sizes[key] = _sum(own, (sizes[callee] for callee in callees[key]))
    called = (call_key(node) for node in nodes) if functions else ()
    return _sum(Unfolded(0, 0), (sizes[key] for key in called if key in sizes))


def functions_of(header: ModelProto) -> dict[CallKey, FunctionProto]:
    """The local functions of a model."""
    return {_key_of(function): function for function in header.functions}


def _callees(functions: Mapping[CallKey, FunctionProto]) -> dict[CallKey, list[CallKey]]:
    return {
        key: [callee for node in nested(item.node) if (callee := call_key(node)) in functions]
        for key, item in functions.items()
    }


def call_key(node: NodeProto) -> CallKey:
    """The function that a node calls, if the model has it."""
    return plain_domain(node.domain), node.op_type, node.overload


def _key_of(function: FunctionProto) -> CallKey:
    return plain_domain(function.domain), function.name, function.overload


def _name(key: CallKey) -> str:
    return ":".join(filter(None, key))


def _sum(own: Unfolded, others: Iterable[Unfolded]) -> Unfolded:
    """The total; it stops to grow behind the bounds: numbers would get thousands of digits."""
    nodes, size = own
    for other in others:
        nodes = min(nodes + other.nodes, UNFOLDED_NODES + 1)
        size = min(size + other.size, UNFOLDED_BYTES + 1)
    return Unfolded(nodes, size)


def nested(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes of messages and those of their bodies."""
    for node in nodes:
        yield node
        for item in node.attribute:
            if item.type == AttributeProto.GRAPH:
                yield from nested(item.g.node)
            elif item.type == AttributeProto.GRAPHS:
                for graph in item.graphs:
                    yield from nested(graph.node)


def _ordered(callees: Mapping[CallKey, list[CallKey]]) -> tuple[list[CallKey], CallKey | None]:
    """The functions, each behind those that it calls, or one that calls itself.

    Without recursion: a chain of calls may be as long as the file allows.
    """
    done: dict[CallKey, None] = {}
    for start in callees:
        if start in done:
            continue
        under_way = {start: iter(callees[start])}
        while under_way:
            key = next(reversed(under_way))
            callee = next((callee for callee in under_way[key] if callee not in done), None)
            if callee in under_way:
                return [], callee
            if callee is None:
                del under_way[key]
                done[key] = None
            else:
                under_way[callee] = iter(callees[callee])
    return list(done), None


def _bodies(
    functions: dict[CallKey, FunctionProto],
    called: set[CallKey],
    callees: dict[CallKey, list[CallKey]],
) -> Iterator[str]:
    """Names that a function makes twice or not at all; what nobody calls may be left unfinished."""
    waiting = list(called)
    while waiting:
        new = set(callees[waiting.pop()]) - called
        called |= new
        waiting += new
    for key, function in functions.items():
        where = f" in function {_name(key)!r}"
        made = {*function.input, *(name for node in function.node for name in node.output)}
        for name in function.output:
            if name not in made:
                yield f"output {name!r} is computed by nothing{where}"
        if key in called:
            versions = [o.version for o in function.opset_import if o.domain in DEFAULT_DOMAIN]
            for node in nested(function.node):
                yield from (
                    f"{text}{where}"
                    for text in misuse(node, versions[-1] if versions else NEWEST_OPSET)
                )
            yield from (f"{text}{where}" for text in twice_made(function.node, function.input))
