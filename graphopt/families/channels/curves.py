"""What the answers suffer as groups of channels get narrower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.channels import ChannelGroup
from graphopt.contract.passes import Context
from graphopt.facts.shapes import Shapes
from graphopt.families.answer_damage import AnswerDamage
from graphopt.families.channels.cuts import Cut, emptied
from graphopt.families.channels.drops import Branch
from graphopt.families.channels.readers import LayerRows
from graphopt.graph.graph import Graph
from graphopt.numerics.elimination import Elimination
from graphopt.numerics.narrowing import Curve, damage_between

__all__ = ["Way", "measured_curves", "plain_curves"]

_POINTS = (0.25, 0.5, 0.75)
"""Shares of a group that are cut alone to see what the answers suffer."""


@dataclass(frozen=True, eq=False)
class Way:
    """How a group may get narrower.

    Attributes:
        group: The units.
        units: Who goes first, and the error that this makes.
        widths: What it may be cut to, falling; the first is all of it.
        branch: What goes with all of it, where that may be.
    """

    group: ChannelGroup
    units: Elimination
    widths: tuple[int, ...]
    branch: Branch | None = None

    def cut(self, count: int) -> Cut:
        """The units that go first."""
        return Cut(self.group, tuple(self.units.order[:count].tolist()), self.branch)

    def curve(self, damage: np.ndarray) -> Curve:
        """The damage ``(units + 1,)`` at the widths that are allowed."""
        gone = [self.group.size - width for width in self.widths]
        return Curve(self.widths, np.asarray(damage[gone]))


def plain_curves(ways: Sequence[Way]) -> list[Curve]:
    """Damage that is the error of the layers that read the group, relative to their outputs."""
    return [way.curve(way.units.errors) for way in ways]


def measured_curves(
    graph: Graph,
    context: Context,
    shapes: Shapes,
    ways: Sequence[Way],
    known: Mapping[str, LayerRows],
    samples: int,
) -> list[Curve]:
    """Damage to the answers on samples: measured at some widths of each group, all else whole.

    Args:
        graph: The model; left as it is.
        context: Has the samples.
        shapes: Of its tensors.
        ways: The groups.
        known: The layers that read them.
        samples: How many samples answer.
    """
    damage = AnswerDamage(graph, context, samples)
    curves = []
    for way in ways:
        size = way.group.size
        counts = sorted({min(max(1, round(share * size)), size - 1) for share in _POINTS})
        if not way.widths[-1]:
            counts.append(size)
        found = [damage.of(emptied(graph, shapes, way.cut(count), known)) for count in counts]
        curves.append(way.curve(damage_between(way.units.errors, counts, found)))
    return curves
