"""What a graph costs once its groups of channels have other widths, without cutting it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGroup
from graphopt.facts.cost import parameter_constants
from graphopt.facts.mac_axes import mac_axes
from graphopt.facts.macs import node_macs
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import stored_bytes

__all__ = ["ChannelCosts", "Term", "TimeTable", "mac_terms", "size_terms"]

Floats = NDArray[np.float64]

Term = tuple[float, Mapping[tuple[str, int], int]]
"""A part of the cost, and the axes of tensors, with their lengths, in proportion to which it falls.
"""


@dataclass(frozen=True, eq=False)
class TimeTable:
    """What a layer costs at some widths of what it reads and what it makes; between, linearly.

    Attributes:
        axes: The axes of the two.
        widths: Lengths of each, rising, the last as they are.
        costs: ``(first, second)``.
    """

    axes: tuple[tuple[str, int], tuple[str, int]]
    widths: tuple[Floats, Floats]
    costs: Floats

    def at(self, first: float, second: float) -> float:
        """What it costs at these lengths."""
        columns = [np.interp(second, self.widths[1], row) for row in self.costs]
        return float(np.interp(first, self.widths[0], columns))


class ChannelCosts:
    """The sum of some parts, each proportional to the lengths of some axes.

    Args:
        terms: The parts at full width.
        groups: The groups whose widths may fall.
        tables: Parts that are not proportional.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        groups: Sequence[ChannelGroup],
        tables: Sequence[TimeTable] = (),
    ) -> None:
        lengths = {axis: size for _, axes in terms for axis, size in axes.items() if size}
        for table in tables:
            pairs = zip(table.axes, table.widths, strict=True)
            lengths |= {axis: int(widths[-1]) for axis, widths in pairs}
        places: dict[tuple[str, int], int] = {}
        shares: list[Floats] = []
        for at, group in enumerate(groups):
            for axis, units in group.positions.items():
                if axis not in lengths:
                    continue
                if axis not in places:
                    places[axis] = len(shares)
                    shares.append(np.zeros(len(groups)))
                held = sum(map(len, units)) / max(1, len(units))
                shares[places[axis]][at] += held / lengths[axis]
        self._units = np.array([group.size for group in groups], np.float64)
        self._shares = np.array(shares).reshape(len(shares), len(groups))
        self._base = np.array([base for base, _ in terms])
        widest = max((len(axes) for _, axes in terms), default=0)
        self._axes = np.full((len(terms), max(1, widest)), len(shares))
        for row, (_, axes) in enumerate(terms):
            for column, axis in enumerate(axes):
                self._axes[row, column] = places.get(axis, len(shares))
        self._tables = list(tables)
        self._ends = [[places.get(axis, len(shares)) for axis in table.axes] for table in tables]
        self._known: dict[tuple[int, float, float], float] = {}

    def __call__(self, widths: Sequence[int]) -> float:
        """What it costs with so many units of each group left."""
        left = np.append(1 - self._shares @ (self._units - np.asarray(widths)), 1.0)
        parts = self._base @ left[self._axes].prod(axis=1)
        return float(parts) + sum(
            self._looked_up(number, left[first], left[second])
            for number, (first, second) in enumerate(self._ends)
        )

    def _looked_up(self, number: int, first: float, second: float) -> float:
        key = number, round(float(first), 6), round(float(second), 6)
        if key not in self._known:
            table = self._tables[number]
            lengths = (table.widths[0][-1] * first, table.widths[1][-1] * second)
            self._known[key] = table.at(*lengths)
        return self._known[key]


def mac_terms(graph: Graph, shapes: Shapes) -> list[Term]:
    """Multiply-accumulates of a run; those of nodes that nobody can count are left out.

    Args:
        graph: Its bodies are left out: no group reaches into them.
        shapes: In that run.
    """
    return [
        (macs, mac_axes(graph.main, node, shapes))
        for node in graph.main.nodes
        if (macs := node_macs(graph.main, node, shapes))
    ]


def size_terms(graph: Graph, *, in_bytes: bool) -> list[Term]:
    """Parameters, or the bytes in which they are stored."""
    terms: list[Term] = []
    for constant in parameter_constants(graph):
        size = stored_bytes(constant.tensor) if in_bytes else math.prod(constant.shape)
        lengths = {(constant.origin, axis): size for axis, size in enumerate(constant.shape)}
        terms.append((size, lengths))
    return terms
