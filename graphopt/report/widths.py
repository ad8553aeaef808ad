"""Groups of channels that got narrower: what losing some of each costs, and what is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphopt.contract.taken import GroupWidth
from graphopt.report.charts import HEIGHT, Strip, strip_of
from graphopt.run.record import PassRecord

__all__ = [
    "SPAN",
    "Merged",
    "Panel",
    "Widths",
    "merged",
    "totals",
    "widths",
]

SPAN = 1000
"""Width of a panel in the units of its paths: all units of a group."""
_FLOOR = 1e-3  # what is less runs along the bottom of a panel
_NAMED = 4  # layers that are named under the pointer
_SHOWN = 30  # panels before the fold
_MOST = 300  # panels in all; a reader of more takes the JSON report


@dataclass(frozen=True)
class Panel:
    """A group of channels: what losing some of it costs, and where it was cut.

    ``loss`` and ``damage`` are lines; ``cut`` is the place of the width that is left, None where
    all are; ``dots`` are on the lines there.
    """

    name: str
    makers: list[str]
    readers: list[str]
    before: int
    after: int
    words: str
    costs: list[str]
    told: str
    kept: float
    loss: str
    damage: str
    cut: float | None
    dots: tuple[str, str]


@dataclass(frozen=True)
class Widths:
    """The groups of one pass that removed channels.

    ``strip`` has their widths in the order of the model; ``lines`` are the heights at which the
    panels, whose upright axis reaches from ``low`` to ``high``, have lines for powers of ten;
    ``left_out`` counts panels beyond those that a page can hold.
    """

    name: str
    told: str
    criterion: str
    measured: bool
    strip: Strip
    panels: list[Panel]
    rest: list[Panel]
    left_out: int
    low: str
    high: str
    lines: list[float]


@dataclass(frozen=True)
class Merged:
    """Groups of the same width before and after."""

    groups: int
    before: str
    after: str
    first: str


def widths(passes: Sequence[PassRecord]) -> list[Widths]:
    """Each pass that removed channels."""
    return [_widths(item) for item in passes if _narrower(item.taken.groups)]


def _narrower(groups: Sequence[GroupWidth]) -> list[GroupWidth]:
    return [each for each in groups if each.after < each.before]


def _widths(item: PassRecord) -> Widths:
    groups = [_finite(each) for each in item.taken.groups]
    high = max([1.0, *(value for each in groups for _, value in (*each.loss, *each.damage))])
    panels = [_panel(each, high) for each in groups]
    decades = range(round(math.log10(_FLOOR)) + 1, math.ceil(math.log10(high) + 1e-9))
    return Widths(
        name=item.name,
        told=_total(groups),
        criterion=item.taken.criterion,
        measured=any(each.damage for each in groups),
        strip=strip_of(
            "channels",
            [(each.before * each.channels, each.after * each.channels) for each in groups],
            [f"{each.name}: {_units(each)}" for each in groups],
        ),
        panels=panels[:_SHOWN],
        rest=panels[_SHOWN:_MOST],
        left_out=max(0, len(panels) - _MOST),
        low=f"{_FLOOR:g}",
        high=f"{high:.2g}",
        lines=[_height(10.0**power, high) for power in decades],
    )


def totals(passes: Sequence[PassRecord]) -> str:
    """How many channels went in each pass that removed any, of how many."""
    found = [item.taken.groups for item in passes if _narrower(item.taken.groups)]
    return "; ".join(map(_total, found))


def _finite(each: GroupWidth) -> GroupWidth:
    """The group without figures that are no numbers."""
    loss, damage = ([p for p in line if math.isfinite(p[1])] for line in (each.loss, each.damage))
    return replace(each, loss=loss, damage=damage)


def _total(groups: Sequence[GroupWidth]) -> str:
    whole = sum(each.before * each.channels for each in groups)
    left = sum(each.after * each.channels for each in groups)
    fewer = len(_narrower(groups))
    return (
        f"{whole - left} of {whole} channels went, from {fewer} of {len(groups)} "
        f"group{'' if len(groups) == 1 else 's'}"
    )


def _units(each: GroupWidth) -> str:
    """A group's width before and after; of units of several channels ``12 x 32``."""
    before, after = _width(each, each.before), _width(each, each.after)
    return before if each.after == each.before else f"{before} -> {after}"


def _width(each: GroupWidth, units: int) -> str:
    return f"{units} x {each.channels}" if units and each.channels > 1 else str(units)


def _panel(each: GroupWidth, high: float) -> Panel:
    gone = each.before - each.after
    found = dict(each.loss), dict(each.damage)
    x = round(SPAN * gone / max(each.before, 1))
    dots = [f"M{x} {_height(v[gone], high)}h0" if gone and gone in v else "" for v in found]
    return Panel(
        name=each.name,
        makers=each.makers,
        readers=each.readers,
        before=each.before,
        after=each.after,
        words=_units(each),
        costs=[_cost(values[gone]) for values in found if gone and gone in values],
        told=_told(each),
        kept=round(100 * each.after / max(each.before, 1), 1),
        loss=_line(each.loss, each.before, high),
        damage=_line(each.damage, each.before, high),
        cut=x if gone else None,
        dots=(dots[0], dots[1]),
    )


def _cost(value: float) -> str:
    return f"{value:.2g}" if value >= _FLOOR else f"<{_FLOOR:g}"


def _told(each: GroupWidth) -> str:
    """Whose channels they are, and what their order goes by besides the criterion."""
    made, read = ", ".join(each.makers[:_NAMED]), ", ".join(each.readers[:_NAMED])
    more = [len(names) - _NAMED for names in (each.makers, each.readers)]
    ends = [f" and {each} more" if each > 0 else "" for each in more]
    told = f"made by {made}{ends[0]}; read by {read or 'none'}{ends[1]}"
    return f"{told}; {each.basis}" if each.basis else told


def _height(value: float, high: float) -> float:
    """Where a value lies on the logarithmic axis, from the top."""
    share = math.log(max(value, _FLOOR) / _FLOOR) / math.log(high / _FLOOR)
    return round(HEIGHT * (1 - share), 1)


def _line(points: Sequence[tuple[int, float]], whole: int, high: float) -> str:
    """A path along the points; from nothing gone on, where there is nothing to lose."""
    return "".join(
        f"{'L' if index else 'M'}{SPAN * gone / whole:.0f} {_height(value, high)}"
        for index, (gone, value) in enumerate(points)
    )


def merged(passes: Sequence[PassRecord]) -> list[Merged]:
    """Groups that got narrower, those of the same widths in one, in the order of the model."""
    found: dict[tuple[str, str], list[str]] = {}
    for item in passes:
        for each in _narrower(item.taken.groups):
            pair = _width(each, each.before), _width(each, each.after)
            found.setdefault(pair, []).append(each.name)
    return [Merged(len(names), *pair, names[0]) for pair, names in found.items()]
