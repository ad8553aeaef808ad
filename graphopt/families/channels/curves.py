"""What the answers suffer as groups of channels get narrower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.facts.macs import count_macs
from graphopt.families.answer_damage import AnswerDamage
from graphopt.families.channels.cuts import emptied
from graphopt.families.channels.narrowable import Narrowable, Way
from graphopt.numerics.narrowing import Curve, damage_between

__all__ = ["measured_curves", "plain_curves"]

_POINTS = (0.25, 0.5, 0.75)
"""Shares of a group that are cut alone to see what the answers suffer."""
_MOST_MACS = 8_000_000_000_000
"""What that multiplies at most, if so few samples as the least allow it: some minutes on two cores.
"""
_LEAST_SAMPLES = 16


def plain_curves(ways: Sequence[Way]) -> list[Curve]:
    """Damage that is the error of the layers that read the group, relative to their outputs."""
    return [way.curve(way.units.errors) for way in ways]


def measured_curves(model: Narrowable, samples: int) -> list[Curve]:
    """Damage to the answers on samples: measured at some widths of each group, all else whole.

    Args:
        model: Its groups.
        samples: How many samples answer; fewer where the model is large.
    """
    damage = AnswerDamage(model.graph, model.context, _affordable(model, samples))
    place = {id(node): at for at, node in enumerate(model.graph.main.nodes)}
    first = [
        min((place[id(each.node)] for each in way.group.consumers), default=0) for way in model.ways
    ]
    curves: dict[int, Curve] = {}
    for at in np.argsort(first, kind="stable").tolist():
        way = model.ways[at]
        size = way.group.size
        counts = sorted({min(max(1, round(share * size)), size - 1) for share in _POINTS})
        if not way.widths[-1]:
            counts.append(size)
        found = [
            damage.of(emptied(model.graph, model.shapes, way.cut(count), model.known))
            for count in counts
        ]
        curves[at] = way.curve(damage_between(way.units.errors, counts, found))
    return [curves[at] for at in range(len(curves))]


def _affordable(model: Narrowable, samples: int) -> int:
    """As many samples as the size of the model allows; each edit runs half of it on the average."""
    macs = count_macs(model.graph, model.shapes).total or 1
    runs = len(_POINTS) * len(model.ways) / 2 + 1
    return min(samples, max(_LEAST_SAMPLES, round(_MOST_MACS / (runs * macs))))
