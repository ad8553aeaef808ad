"""Local functions: who calls whom, and how large the model is once every call is unfolded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto

from graphopt.graph.node import DEFAULT_DOMAIN
from graphopt.graph.wiring import twice_made

__all__ = ["UNFOLDED_BYTES", "UNFOLDED_NODES", "miscalled"]

UNFOLDED_NODES = 1_000_000
"""Most nodes that calls may stand for. Shape inference and onnxruntime unfold every call; the
largest exports have some 100,000 nodes."""
UNFOLDED_BYTES = 2**31 - 1
"""Most bytes of nodes and constants that calls may stand for: what fits in one message."""

_Key = tuple[str, str, str]


class _Size(NamedTuple):
    nodes: int
    size: int


def miscalled(header: ModelProto, nodes: Iterable[NodeProto]) -> Iterator[str]:
    """What is wrong with the local functions of a model, a sentence each.

    Functions that are there twice, that call themselves or each other, or that compute a name
    twice or not at all; calls that unfold to more than ``UNFOLDED_NODES`` or ``UNFOLDED_BYTES``.

    Args:
        header: Holds the functions.
        nodes: All nodes of the model's graphs, those of bodies included.
    """
    functions: dict[_Key, FunctionProto] = {}
    for function in header.functions:
        key = (_domain(function.domain), function.name, function.overload)
        if key in functions:
            yield f"function {_name(key)!r} is defined twice"
            return
        functions[key] = function
    if not functions:
        return
    callees = {
        key: [callee for node in _nested(item.node) if (callee := _key(node)) in functions]
        for key, item in functions.items()
    }
    order, circle = _ordered(callees)
    if circle is not None:
        yield f"function {_name(circle)!r} calls itself, at once or through others"
        return
    sizes: dict[_Key, _Size] = {}
    for key in order:  # callees first
        own = _Size(sum(1 for _ in _nested(functions[key].node)), functions[key].ByteSize())
        sizes[key] = _sum(own, (sizes[callee] for callee in callees[key]))
    called = [key for node in nodes if (key := _key(node)) in functions]
    total = _sum(_Size(0, 0), (sizes[key] for key in called))
    if total.nodes > UNFOLDED_NODES:
        yield f"its functions unfold to more than {UNFOLDED_NODES:,} nodes"
    if total.size > UNFOLDED_BYTES:
        yield f"its functions unfold to more than {UNFOLDED_BYTES:,} bytes"
    yield from _bodies(functions, set(called), callees)


def _domain(name: str) -> str:
    return "" if name in DEFAULT_DOMAIN else name


def _key(node: NodeProto) -> _Key:
    return _domain(node.domain), node.op_type, node.overload


def _name(key: _Key) -> str:
    return ":".join(filter(None, key))


def _sum(own: _Size, others: Iterable[_Size]) -> _Size:
    """The total; it stops to grow behind the bounds: numbers would get thousands of digits."""
    nodes, size = own
    for other in others:
        nodes = min(nodes + other.nodes, UNFOLDED_NODES + 1)
        size = min(size + other.size, UNFOLDED_BYTES + 1)
    return _Size(nodes, size)


def _nested(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes and those of their bodies."""
    for node in nodes:
        yield node
        for item in node.attribute:
            if item.type == AttributeProto.GRAPH:
                yield from _nested(item.g.node)
            elif item.type == AttributeProto.GRAPHS:
                for graph in item.graphs:
                    yield from _nested(graph.node)


def _ordered(callees: Mapping[_Key, list[_Key]]) -> tuple[list[_Key], _Key | None]:
    """The functions, each behind those that it calls, or one that calls itself.

    Without recursion: a chain of calls may be as long as the file allows.
    """
    done: dict[_Key, None] = {}
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
    functions: dict[_Key, FunctionProto], called: set[_Key], callees: dict[_Key, list[_Key]]
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
            yield from (f"{text}{where}" for text in twice_made(function.node, function.input))
