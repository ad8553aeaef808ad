"""Which nodes of known value to replace by their results, so that a file gets as small as it can.

Each node that can be computed is kept or goes. What goes leaves behind those of its results that
something else reads; with it go constants and nodes that nothing else needs. The bytes of what is
kept and of what is left behind are a cut of a graph, so the choice of fewest bytes is the minimum
cut: a chain from one large constant to many layers is weighed as a whole, however its parts hang
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from onnx import NodeProto

from graphopt.graph.graph import Scope
from graphopt.graph.order import sorted_nodes
from graphopt.graph.tensors import Array, stored_bytes
from graphopt.numerics.cut import UNCUT, source_side

__all__ = ["folded", "held_bytes"]

_OVERHEAD = 16  # bytes of tags, dims and lengths around the values of an initializer
_KEPT, _GONE = 0, 1  # the two sides, as nodes of the cut


def held_bytes(name: str, values: Array) -> int:
    """Bytes that a file takes for an initializer."""
    return int(values.nbytes) + len(name) + _OVERHEAD


def folded(
    scope: Scope,
    known: Sequence[NodeProto],
    values: Mapping[str, Array],
    barred: Callable[[str], bool],
) -> tuple[list[NodeProto], list[NodeProto]]:
    """The nodes to replace by what they give, and the others that only these need.

    As many go as can without a larger file than the smallest.

    Args:
        scope: Where the nodes are.
        known: The nodes whose results are known, in order.
        values: The results by name.
        barred: Whether a result must not stand as a constant.
    """
    upstream = _upstream(scope, known)
    nodes = [*known, *upstream]
    places = {id(node): at for at, node in enumerate(nodes, start=2)}
    count, edges = len(nodes) + 2, list[tuple[int, int, int]]()
    constants: dict[str, int] = {}
    for node in nodes:
        place = places[id(node)]
        edges.append((place, _GONE, node.ByteSize()))
        for name in dict.fromkeys(filter(None, node.output)):
            left = UNCUT if name not in values or barred(name) else held_bytes(name, values[name])
            readers = list(_readers(scope, name, places))
            if _KEPT in readers:
                edges.append((_KEPT, place, left))
            elif readers:
                edges.append((count, place, left))
                edges += [(reader, count, UNCUT) for reader in readers]
                count += 1
        for name in dict.fromkeys(filter(None, node.input)):
            if name not in constants and _droppable(scope, name, places):
                constants[name] = count
                size = stored_bytes(scope.initializers[name]) + len(name) + _OVERHEAD
                edges.append((count, _GONE, size))
                count += 1
            if name in constants:
                edges.append((place, constants[name], UNCUT))
    kept = source_side(count, edges)
    replaced, needless = (
        [node for node in part if places[id(node)] not in kept] for part in (known, upstream)
    )
    return replaced, needless


def _readers(scope: Scope, name: str, places: Mapping[int, int]) -> Iterator[int]:
    """Who reads a tensor, as nodes of the cut; what always stays is the side of the kept."""
    if scope.is_output(name):
        yield _KEPT
    for use in scope.any_uses(name):
        yield places.get(id(use.node), _KEPT) if use.index >= 0 else _KEPT


def _droppable(scope: Scope, name: str, places: Mapping[int, int]) -> bool:
    """Whether a name is an initializer that only nodes of the cut read."""
    if name not in scope.initializers or scope.is_input(name):
        return False
    return _KEPT not in _readers(scope, name, places)


def _upstream(scope: Scope, known: Sequence[NodeProto]) -> list[NodeProto]:
    """The other nodes that nothing but the known ones needs, last first."""
    inside, found = dict.fromkeys(map(id, known), _GONE), list[NodeProto]()
    if not known:
        return found
    for node in reversed(sorted_nodes(scope)):
        if id(node) in inside or scope.children(node):
            continue
        readers = [r for name in node.output if name for r in _readers(scope, name, inside)]
        if readers and _KEPT not in readers:
            inside[id(node)] = _GONE
            found.append(node)
    return found
