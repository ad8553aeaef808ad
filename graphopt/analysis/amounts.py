"""Parameters and multiply-accumulates that go with positions of axes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.facts import cost
from graphopt.facts.mac_axes import mac_axes
from graphopt.facts.macs import node_macs
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph
from graphopt.rewrite.shrunk import Place

__all__ = ["Amount", "PositionCosts"]


@dataclass(frozen=True)
class Amount:
    """What a part of a model holds.

    Attributes:
        params: Parameters.
        macs: Multiply-accumulates of one run; None where they are not known.
    """

    params: int
    macs: int | None


class PositionCosts:
    """Parameters and MACs that go with positions."""

    def __init__(self, graph: Graph, shapes: Shapes) -> None:
        scope = graph.main
        self._sizes = {
            constant.origin: constant.shape
            for constant in cost.parameter_constants(graph)
            if constant.scope.parent is None
        }
        self._macs: list[tuple[int, dict[Place, int]]] = []
        self._counted: dict[Place, list[int]] = {}
        total: int | None = 0
        for node in scope.nodes:
            macs = node_macs(scope, node, shapes)
            total = None if macs is None or total is None else total + macs
            if macs:
                axes = mac_axes(scope, node, shapes)
                for place in axes:
                    self._counted.setdefault(place, []).append(len(self._macs))
                self._macs.append((macs, axes))
        self.whole = Amount(cost.params(graph), total)

    def gone(self, counts: Mapping[Place, int]) -> Amount:
        """What goes with so many positions of each axis."""
        params = 0
        for name in {name for name, _ in counts if name in self._sizes}:
            shape = self._sizes[name]
            left = math.prod(size - counts.get((name, at), 0) for at, size in enumerate(shape))
            params += math.prod(shape) - left
        macs = 0.0
        for index in sorted({at for place in counts for at in self._counted.get(place, ())}):
            whole, sizes = self._macs[index]
            parts = [1 - counts.get(place, 0) / sizes[place] for place in sizes]
            macs += whole * (1 - math.prod(parts))
        return Amount(params, None if self.whole.macs is None else round(macs))
