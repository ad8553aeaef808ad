"""A model whose groups of channels may get narrower, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.channels import ChannelGroup
from graphopt.contract.passes import Context
from graphopt.facts.shapes import Shapes
from graphopt.families.channels.cuts import Cut
from graphopt.families.channels.drops import Branch
from graphopt.families.channels.readers import LayerRows
from graphopt.graph.graph import Graph
from graphopt.numerics.elimination import Elimination
from graphopt.numerics.narrowing import Curve

__all__ = ["Narrowable", "Way"]


@dataclass(frozen=True, eq=False)
class Way:
    """How a group may get narrower.

    Attributes:
        group: The units.
        units: Who goes first, and the error that this makes.
        widths: What it may be cut to, falling; the first is all of it.
        branch: What goes with all of it, where that may be.
        basis: What else than the criterion the order goes by, in words; empty for nothing.
    """

    group: ChannelGroup
    units: Elimination
    widths: tuple[int, ...]
    branch: Branch | None = None
    basis: str = ""

    def cut(self, count: int) -> Cut:
        """The units that go first."""
        return Cut(self.group, tuple(self.units.order[:count].tolist()), self.branch)

    def curve(self, damage: np.ndarray) -> Curve:
        """The damage ``(units + 1,)`` at the widths that are allowed."""
        gone = [self.group.size - width for width in self.widths]
        return Curve(self.widths, np.asarray(damage[gone]))


@dataclass(frozen=True, eq=False)
class Narrowable:
    """A model with the ways in which its groups may get narrower.

    Attributes:
        graph: It; left as it is.
        context: Has the samples and the original.
        shapes: Of its tensors in a run.
        ways: Its groups.
        known: The layers that read them, where samples were observed.
    """

    graph: Graph
    context: Context
    shapes: Shapes
    ways: Sequence[Way]
    known: Mapping[str, LayerRows]

    @property
    def groups(self) -> list[ChannelGroup]:
        """The groups alone."""
        return [way.group for way in self.ways]

    @property
    def whole(self) -> list[int]:
        """The widths as they are."""
        return [way.group.size for way in self.ways]

    def cuts(self, widths: Sequence[int]) -> list[Cut]:
        """What goes so that the groups have these widths; those that stay whole are left out."""
        pairs = zip(self.ways, widths, strict=True)
        return [way.cut(way.group.size - w) for way, w in pairs if w < way.group.size]

    def widths(self, cuts: Sequence[Cut]) -> list[int]:
        """The widths of the groups behind some cuts."""
        left = {cut.group.name: cut.width for cut in cuts}
        return [left.get(way.group.name, way.group.size) for way in self.ways]
