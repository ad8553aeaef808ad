"""Which positions of which axes can only go together: the loops of all nodes, tied to each other.

Each position of each axis of each tensor is a point, each value of each loop of each node as well
(``graphopt.facts.operators.nest``). A node ties a position to the value of the loop that it stands
for; what is tied, directly or through others, goes together or stays. An axis that runs through
several loops, such as ``(heads width)``, can lose whole slabs of one of them: of the one that is
chosen (``graphopt.analysis.knots``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from graphopt.analysis.knots import (
    Choice,
    Ints,
    Knot,
    chosen_loops,
    families_of,
    joined_parts,
    knots_of,
    long_loops,
    loop_size,
    operands_of,
)
from graphopt.facts.axes import loops_of
from graphopt.facts.shapes import Shapes
from graphopt.facts.some_sizes import at_some_sizes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import label
from graphopt.rewrite.shrunk import Place

__all__ = ["Coupling", "Reason", "couple"]

_LONGEST = 1 << 22
_LISTED = "it is listed as an input; put freeze-initializers before"
_NO_SIZE = "its size is not known, or immense"
_STAYS = "it is one of the parts that an axis is cut into, and another is the one that can go"


class Reason(NamedTuple):
    """Why positions stay.

    Attributes:
        why: In words.
        at: The node or tensor that keeps them.
    """

    why: str
    at: str


@dataclass(frozen=True)
class Coupling:
    """What goes together.

    Attributes:
        spans: Where the points of an axis begin, and how many it has.
        together: For each point the number of what goes with it.
        reasons: Numbers of that which stays, each with the reason.
        knots: The nodes with their loops.
    """

    spans: dict[Place, tuple[int, int]]
    together: Ints
    reasons: dict[int, Reason]
    knots: Sequence[Knot]

    def at(self, place: Place) -> Ints | None:
        """Numbers for each position of an axis; None where its size is not known."""
        span = self.spans.get(place)
        return None if span is None else self.together[span[0] : span[0] + span[1]]


class _Net:
    """Points, ties and what stays."""

    def __init__(self) -> None:
        self.count = 0
        self.spans: dict[Place, tuple[int, int]] = {}
        self.ties: list[tuple[Ints, Ints]] = []
        self.stays: list[tuple[Ints, Reason]] = []
        self.yields: list[tuple[Ints, Reason]] = []
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
    net, knots = _Net(), knots_of(graph.main, at_some_sizes(graph, shapes))
    _place(net, knots)
    families = families_of(knots)
    nothing: list[Choice] = [{} for _ in knots]
    together = _tied(net, graph.main, knots, nothing)
    every = [[loop for loops in knot.composites for loop in loops] for knot in knots]
    refused = _hopeless(net, knots, every, families, together)
    while True:
        chosen = chosen_loops(knots, families, refused)
        together = _tied(net, graph.main, knots, chosen)
        more = _hopeless(net, knots, [each.values() for each in chosen], families, together)
        if more <= refused:
            return Coupling(net.spans, together, _reasons(net, together), knots)
        refused |= more


def _tied(
    net: _Net,
    scope: Scope,
    knots: Sequence[Knot],
    chosen: Sequence[Choice],
) -> Ints:
    """For each point the number of what goes with it, with these loops of composite axes."""
    net.ties, net.stays, net.yields = [], [], []
    _ends(net, scope)
    for knot, choice in zip(knots, chosen, strict=True):
        _tie(net, knot, choice)
        _believe(net, scope, knot)
    return _components(net)


def _place(net: _Net, knots: Sequence[Knot]) -> None:
    """Make the points of all axes and loops."""
    for knot in knots:
        for name, number, axis in knot.operands:
            length = knot.nest.length(axis)
            if length is not None and length <= _LONGEST and (name, number) not in net.spans:
                net.spans[name, number] = net.points(length), length
        for loop, size in knot.nest.sizes.items():
            if isinstance(size, int) and size <= _LONGEST:
                knot.begins[loop] = net.points(size)


def _hopeless(
    net: _Net,
    knots: Sequence[Knot],
    loops: Sequence[Iterable[str]],
    families: dict[tuple[int, str], int],
    together: Ints,
) -> set[int]:
    """Families of which one of these loops of each node cannot lose any value."""
    stuck = np.zeros(together.max(initial=0) + 1, bool)
    for points, _ in net.stays:
        stuck[together[points]] = True
    found: set[int] = set()
    for at, (knot, asked) in enumerate(zip(knots, loops, strict=True)):
        for loop in asked:
            begin, size = knot.begins.get(loop, 0), loop_size(knot.nest, loop)
            if stuck[together[begin : begin + size]].all():
                found.add(families[at, loop])
    return found


# what is tied, and what stays


def _ends(net: _Net, scope: Scope) -> None:
    """Inputs and outputs of the model stay, and what its bodies read."""
    whys = [
        (name, Reason(_LISTED if scope.holds(name) else "it is an input of the model", name))
        for name in scope.inputs
    ]
    whys += [(name, Reason("it is an output of the model", name)) for name in scope.outputs]
    for node in scope.nodes:
        if scope.children(node):
            names = [*scope.reads(node), *node.output]
            whys += [
                (name, Reason("it goes into a body or comes out", label(node))) for name in names
            ]
    held = dict(reversed(whys))
    for place in net.spans:
        if place[0] in held:
            net.stays.append((net.span(place), held[place[0]]))


def _tie(net: _Net, knot: Knot, chosen: Choice) -> None:
    """Tie the axes of a node's operands to its loops."""
    made = knot.nest
    for loop, why in made.fixed.items():
        net.stays.append((_values(knot, loop), Reason(why, label(knot.node))))
    for loops, best in chosen.items():
        others = [_values(knot, loop) for loop in loops if loop != best]
        net.yields += [(points, Reason(_STAYS, label(knot.node))) for points in others]
    for name, number, axis in knot.operands:
        points = net.span((name, number))
        if made.length(axis) != len(points):
            unsure = [points, *(_values(knot, loop) for loop in sorted(loops_of(axis)))]
            net.stays += [(each, Reason(_NO_SIZE, label(knot.node))) for each in unsure]
            continue
        offset = 0
        for piece in axis:
            size = made.length((piece,)) or 0
            stretch = points[offset : offset + size]
            offset += size
            if not piece.loops:
                net.stays.append((stretch, Reason("it is a single element", label(knot.node))))
                continue
            loops = long_loops(made, piece)
            through = chosen.get(loops) if len(loops) > 1 else loops[0]
            if through is None:
                continue
            if through not in knot.begins:
                net.stays.append((stretch, Reason(_NO_SIZE, label(knot.node))))
                continue
            net.ties.append((stretch, knot.begins[through] + made.values_at((piece,), through)))
    for name in (name for name, axes in operands_of(knot.node, made) if axes is None):
        unranked = Reason("a rank is not known", name)
        net.stays += [(net.span(place), unranked) for place in net.spans if place[0] == name]
        net.stays += [(_values(knot, loop), unranked) for loop in knot.begins]


def _believe(net: _Net, scope: Scope, knot: Knot) -> None:
    """Sizes that a caller of the model may state otherwise stay."""
    for where, axes in knot.nest.counts.items():
        if isinstance(where, str) or where >= len(knot.node.input):
            continue
        constant = scope.constant(knot.node.input[where])
        if constant is not None and constant.overridable:
            why = Reason(_LISTED, constant.origin)
            loops = sorted({loop for axis in axes for loop in loops_of(axis)})
            net.stays += [(_values(knot, loop), why) for loop in loops]


def _values(knot: Knot, loop: str) -> Ints:
    """The points of a loop."""
    begin = knot.begins.get(loop)
    return np.arange(0) if begin is None else begin + np.arange(loop_size(knot.nest, loop))


def _components(net: _Net) -> Ints:
    pairs = [np.stack(pair, axis=1) for pair in net.ties]
    return joined_parts(net.count, np.concatenate([np.empty((0, 2), np.intp), *pairs]))


def _reasons(net: _Net, together: Ints) -> dict[int, Reason]:
    """Why what stays does, by the first reason in the order of the graph."""
    found: dict[int, Reason] = {}
    for points, why in (*net.stays, *net.yields):
        for number in np.unique(together[points]):
            found.setdefault(int(number), why)
    return found
