"""What is told of groups of channels that got narrower."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from graphopt.contract.passes import Skip
from graphopt.contract.taken import GroupWidth, Taken
from graphopt.families.channels.cuts import Cut
from graphopt.families.channels.narrowable import Narrowable, Way
from graphopt.families.channels.steps import channels_of
from graphopt.graph.node import label
from graphopt.numerics.narrowing import Curve

__all__ = ["narrowed", "taken", "why_no_more"]

_ADVICE = "; put "

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
        basis=way.basis,
        loss=[
            (count, float(way.units.errors[count])) for count in sorted({*counts.tolist(), gone})
        ],
        damage=[(group.size - kept, value) for kept, value in suffered],
    )


def narrowed(model: Narrowable, cuts: Sequence[Cut]) -> Iterator[tuple[str, str]]:
    """Each group that was cut: its name and what became of it, in words."""
    bases = {way.group.name: way.basis for way in model.ways}
    for cut in cuts:
        yield cut.group.name, _words(cut, bases[cut.group.name])


def _words(cut: Cut, basis: str) -> str:
    """What became of a group, and what decided besides the criterion."""
    if not cut.width:
        return f"the branch of {cut.group.size} channels is a constant now"
    what = "heads" if cut.group.heads else "channels"
    told = f"{cut.group.size} -> {cut.width} {what}"
    return f"{told}: {basis}" if basis else told


def why_no_more(ways: Sequence[Way], cuts: Sequence[Cut], units: str, skips: Sequence[Skip]) -> str:
    """Why no more was cut, where that was too little.

    Args:
        ways: What could have been.
        cuts: What was.
        units: What goes, in a word.
        skips: Layers that keep theirs; where that is all of them, most for the same reason, another
            pass may help.
    """
    if not ways and skips:
        reason, count = Counter(each.reason for each in skips).most_common(1)[0]
        if 2 * count > len(skips) and _ADVICE in reason:
            return f"no {units} can go; of {count} layer{'s' * (count > 1)}: {reason}"
    widths = {cut.group.name: cut.width for cut in cuts}
    if any(widths.get(way.group.name, way.group.size) > way.widths[-1] for way in ways):
        return "no widths were found that keep to it"
    return f"no more {units} can go"
