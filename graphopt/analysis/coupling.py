"""Which positions of which axes can only go together: the loops of all nodes, tied to each other.

Each position of each axis of each tensor is a point, each value of each loop of each node as well
(``graphopt.facts.operators.nest``). A node ties a position to the value of the loop that it stands
for; what is tied, directly or through others, goes together or stays. An axis that runs through
several loops, such as ``(heads width)``, can lose whole slabs of one of them: which one is chosen
by the table below, the others then stay whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from graphopt.facts.axes import Axis, Nest, Piece, loops_of
from graphopt.facts.operators import is_kind, nest
from graphopt.facts.shapes import Dim, Shapes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import label
from graphopt.rewrite.shrunk import Place

__all__ = ["Coupling", "couple"]

Ints = NDArray[np.intp]

_LONGEST = 1 << 22
_NO_SIZE = "its size is not known, or immense"
_STAYS = "only another of the loops of its axis can lose values"


@dataclass(frozen=True)
class Coupling:
    """What goes together.

    Attributes:
        spans: Where the points of an axis begin, and how many it has.
        together: For each point the number of what goes with it.
        reasons: Numbers of that which stays, each with the reason.
    """

    spans: dict[Place, tuple[int, int]]
    together: Ints
    reasons: dict[int, str]

    def at(self, place: Place) -> Ints | None:
        """Numbers for each position of an axis; None where its size is not known."""
        span = self.spans.get(place)
        return None if span is None else self.together[span[0] : span[0] + span[1]]


@dataclass(eq=False)
class _Knot:
    """A node with its loops as points."""

    node: NodeProto
    nest: Nest
    operands: list[tuple[str, int, Axis]]
    """Tensor, number of the axis, axis."""
    begins: dict[str, int] = field(default_factory=dict)
    """First point of each loop of a known size."""

    @property
    def composites(self) -> Iterator[tuple[str, ...]]:
        """Loops of each stretch that runs through several, size 1 left out."""
        for _, _, axis in self.operands:
            for piece in axis:
                loops = _long(self.nest, piece)
                if len(loops) > 1:
                    yield loops


class _Net:
    """Points, ties and what stays."""

    def __init__(self) -> None:
        self.count = 0
        self.spans: dict[Place, tuple[int, int]] = {}
        self.ties: list[tuple[Ints, Ints]] = []
        self.stays: list[tuple[Ints, str]] = []
        self.yields: list[tuple[Ints, str]] = []
        """Points that stay because of the loop chosen, which may be chosen otherwise."""

    def points(self, size: int) -> int:
        """Begin of so many new ones."""
        begin, self.count = self.count, self.count + size
        return begin

    def span(self, place: Place) -> Ints:
        """The points of an axis; none where its size is not known."""
        begin, size = self.spans.get(place, (0, 0))
        return np.arange(begin, begin + size)


def couple(graph: Graph, shapes: Shapes) -> Coupling:
    """Tie together all positions of the tensors of the main graph.

    What goes into a body or comes out of one stays, and so do inputs and outputs of the model.

    Args:
        graph: The model.
        shapes: Of its tensors.
    """
    net, knots = _Net(), _knots(graph.main, shapes)
    _place(net, knots)
    families = _families(knots)
    refused: set[int] = set()
    while True:
        chosen = _choose(knots, families, refused)
        net.ties, net.stays, net.yields = [], [], []
        _ends(net, graph.main)
        for at, knot in enumerate(knots):
            _tie(net, knot, chosen[at])
        together = _components(net)
        hopeless = _hopeless(net, knots, chosen, families, together)
        if hopeless <= refused:
            return Coupling(net.spans, together, _reasons(net, together))
        refused |= hopeless


def _knots(scope: Scope, shapes: Shapes) -> list[_Knot]:
    knots = []
    for node in scope.nodes:
        made = nest(scope, node, shapes)
        operands = []
        for names, known in ((node.input, made.inputs), (node.output, made.outputs)):
            for name, axes in zip(names, known, strict=True):
                if name and axes is not None:
                    operands += [(name, number, axis) for number, axis in enumerate(axes)]
        knots.append(_Knot(node, made, operands))
    return knots


def _place(net: _Net, knots: Sequence[_Knot]) -> None:
    """Make the points of all axes and loops."""
    for knot in knots:
        for name, number, axis in knot.operands:
            length = knot.nest.length(axis)
            if length is not None and length <= _LONGEST and (name, number) not in net.spans:
                net.spans[name, number] = net.points(length), length
        for loop, size in knot.nest.sizes.items():
            if isinstance(size, int) and size <= _LONGEST:
                knot.begins[loop] = net.points(size)


# which loop of an axis of several


def _long(made: Nest, piece: Piece) -> tuple[str, ...]:
    """The loops of a stretch but those of size 1; the first one where all are."""
    loops = tuple(loop for loop in piece.loops if made.sizes[loop] != 1)
    return loops or piece.loops[:1]


def _families(knots: Sequence[_Knot]) -> dict[tuple[int, str], int]:
    """Loops of nodes that stand for the same whole axes, by a number for each such family.

    So do the loops of an axis that two nodes cut into several of the same sizes.
    """
    numbers: dict[tuple[int, str], int] = {}
    parts: dict[tuple[str, int, tuple[Dim, ...], int], int] = {}
    pairs: list[tuple[int, int]] = []
    for at, knot in enumerate(knots):
        numbers |= {(at, loop): len(numbers) + k for k, loop in enumerate(knot.nest.sizes)}
    count = len(numbers)
    for at, knot in enumerate(knots):
        for name, number, axis in knot.operands:
            loops = _long(knot.nest, axis[0]) if len(axis) == 1 else ()
            if not loops or axis[0].picks is not None:
                continue
            sizes = tuple(knot.nest.sizes[loop] for loop in loops)
            for depth, loop in enumerate(loops):
                part = parts.setdefault((name, number, sizes, depth), count + len(parts))
                pairs.append((part, numbers[at, loop]))
    families = _joined(count + len(parts), np.array(pairs, np.intp).reshape(-1, 2))
    return {key: int(families[number]) for key, number in numbers.items()}


def _choose(
    knots: Sequence[_Knot], families: dict[tuple[int, str], int], refused: set[int]
) -> list[dict[tuple[str, ...], str]]:
    """For each node the loop that each composite axis may lose values of.

    One that was chosen at another node, else the outermost; of a convolution, whose groups may be
    few, the one with most values.
    """
    barred = refused | {
        families[at, loop] for at, knot in enumerate(knots) for loop in knot.nest.fixed
    }
    liked: set[int] = set()
    chosen: list[dict[tuple[str, ...], str]] = []
    for at, knot in enumerate(knots):
        chosen.append({})
        for loops in knot.composites:
            order = list(loops)
            if is_kind(knot.node, "convolution", "integer"):
                order.sort(key=lambda loop: (-_size(knot.nest, loop), -loops.index(loop)))
            free = [loop for loop in order if families[at, loop] not in barred]
            known = [loop for loop in free if families[at, loop] in liked]
            best = (known or free or order)[0]
            chosen[-1][loops] = best
            liked.add(families[at, best])
    return chosen


def _size(made: Nest, loop: str) -> int:
    size = made.sizes[loop]
    return size if isinstance(size, int) else 0


def _hopeless(
    net: _Net,
    knots: Sequence[_Knot],
    chosen: Sequence[dict[tuple[str, ...], str]],
    families: dict[tuple[int, str], int],
    together: Ints,
) -> set[int]:
    """Families of which a loop was chosen though no value of it can go, whatever else is chosen."""
    stuck = np.zeros(together.max(initial=0) + 1, bool)
    for points, _ in net.stays:
        stuck[together[points]] = True
    found: set[int] = set()
    for at, (knot, choice) in enumerate(zip(knots, chosen, strict=True)):
        for loop in choice.values():
            begin, size = knot.begins.get(loop, 0), _size(knot.nest, loop)
            if stuck[together[begin : begin + size]].all():
                found.add(families[at, loop])
    return found


# what is tied, and what stays


def _ends(net: _Net, scope: Scope) -> None:
    """Inputs and outputs of the model stay, and what its bodies read."""
    whys = [(name, f"{name!r} is an input of the model") for name in scope.inputs]
    whys += [(name, f"{name!r} is an output of the model") for name in scope.outputs]
    for node in scope.nodes:
        if scope.children(node):
            whys += [(name, f"{label(node)} has a body") for name in scope.reads(node)]
            whys += [(name, f"{label(node)} has a body") for name in node.output]
    held = dict(reversed(whys))
    for place in net.spans:
        if place[0] in held:
            net.stays.append((net.span(place), held[place[0]]))


def _tie(net: _Net, knot: _Knot, chosen: dict[tuple[str, ...], str]) -> None:
    """Tie the axes of a node's operands to its loops."""
    made = knot.nest
    for loop, why in made.fixed.items():
        net.stays.append((_values(knot, loop), f"{label(knot.node)}: {why}"))
    for loops, best in chosen.items():
        others = [_values(knot, loop) for loop in loops if loop != best]
        net.yields += [(points, f"{label(knot.node)}: {_STAYS}") for points in others]
    for name, number, axis in knot.operands:
        points = net.span((name, number))
        if made.length(axis) != len(points):
            unsure = [points, *(_values(knot, loop) for loop in sorted(loops_of(axis)))]
            net.stays += [(each, f"{label(knot.node)}: {_NO_SIZE}") for each in unsure]
            continue
        offset = 0
        for piece in axis:
            size = made.length((piece,)) or 0
            stretch = points[offset : offset + size]
            offset += size
            if not piece.loops:
                net.stays.append((stretch, f"{label(knot.node)}: it is a single element"))
                continue
            loops = _long(made, piece)
            loop = chosen[loops] if len(loops) > 1 else loops[0]
            if loop not in knot.begins:
                net.stays.append((stretch, f"{label(knot.node)}: {_NO_SIZE}"))
                continue
            net.ties.append((stretch, knot.begins[loop] + made.values_at((piece,), loop)))
    unranked = (
        name
        for names, known in (
            (knot.node.input, made.inputs),
            (knot.node.output, made.outputs),
        )
        for name, axes in zip(names, known, strict=True)
        if name and axes is None
    )
    for name in unranked:
        why = f"{label(knot.node)}: the rank of {name!r} is not known"
        net.stays += [(net.span(place), why) for place in net.spans if place[0] == name]
        net.stays += [(_values(knot, loop), why) for loop in knot.begins]


def _values(knot: _Knot, loop: str) -> Ints:
    """The points of a loop."""
    begin = knot.begins.get(loop)
    return np.arange(0) if begin is None else begin + np.arange(_size(knot.nest, loop))


def _components(net: _Net) -> Ints:
    pairs = [np.stack(pair, axis=1) for pair in net.ties]
    return _joined(net.count, np.concatenate([np.empty((0, 2), np.intp), *pairs]))


def _joined(count: int, pairs: Ints) -> Ints:
    """For each of ``count`` points the number of its part; ``pairs`` (ties, 2) join them."""
    once = np.ones(len(pairs), np.int8)
    matrix = coo_array((once, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(matrix, directed=False)[1], np.intp)


def _reasons(net: _Net, together: Ints) -> dict[int, str]:
    """Why what stays does, by the first reason in the order of the graph."""
    found: dict[int, str] = {}
    for points, why in (*net.stays, *net.yields):
        for number in np.unique(together[points]):
            found.setdefault(int(number), why)
    return found
