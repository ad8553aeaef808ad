"""What is told of groups of channels that got narrower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.contract.taken import GroupWidth, Taken
from graphopt.families.channels.cuts import Cut
from graphopt.families.channels.narrowable import Narrowable, Way
from graphopt.families.channels.steps import channels_of
from graphopt.graph.node import label
from graphopt.numerics.narrowing import Curve

__all__ = ["taken"]

_POINTS = 49
"""Of a curve that has more, so many are told, evenly spread, and that of the width as it is."""


def taken(
    model: Narrowable, cuts: Sequence[Cut], damages: Sequence[Curve], criterion: str
) -> Taken:
    """The groups in figures.

    Args:
        model: It, before the cuts.
        cuts: What goes.
        damages: What the answers suffer, for each group; empty where that was not measured.
        criterion: By which the groups are ordered.
    """
    widths = model.widths(cuts)
    curves: Sequence[Curve | None] = damages or [None] * len(widths)
    groups = [_width(*each) for each in zip(model.ways, widths, curves, strict=True)]
    return Taken(criterion, groups)


def _width(way: Way, width: int, damage: Curve | None) -> GroupWidth:
    group, gone = way.group, way.group.size - width
    counts = np.linspace(0, group.size, min(group.size + 1, _POINTS)).round().astype(int)
    suffered = [] if damage is None else zip(damage.widths, damage.damage.tolist(), strict=True)
    return GroupWidth(
        name=group.name,
        makers=[label(each.node) for each in group.producers],
        readers=[label(each.node) for each in group.consumers],
        before=group.size,
        after=width,
        channels=channels_of(group),
        loss=[
            (count, float(way.units.errors[count])) for count in sorted({*counts.tolist(), gone})
        ],
        damage=[(group.size - kept, value) for kept, value in suffered],
    )
