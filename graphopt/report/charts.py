"""Geometry of the report's charts: figures in, shares and paths out; the templates draw them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from graphopt.run.record import LayerRecord

__all__ = [
    "HEIGHT",
    "Bar",
    "Group",
    "Ranking",
    "Strip",
    "grouped",
    "rankings",
    "strip_of",
    "strips",
]

_TOP = 15
_FOLDED = 300  # rows behind the fold; a reader of more takes the JSON report
_NAMED = 400  # layers up to which a strip says their names under the pointer
_EXACT_DB = 80.0  # float32 rounding; above it a strip does not rise
HEIGHT = 100
"""Height of a strip in the units of its paths; a layer is one unit wide."""

Value = Callable[[LayerRecord], float | None]
_FIGURES: dict[str, tuple[Value, Value]] = {
    "bytes": (attrgetter("bytes_before"), attrgetter("bytes_after")),
    "ms": (attrgetter("ms_before"), attrgetter("ms_after")),
    "db": (lambda _: None, attrgetter("sqnr_db")),
}
"""What the charts show of a layer, before and after."""


@dataclass(frozen=True)
class Bar:
    """One layer of a ranking; shares are in percent of the longest bar, None without a figure."""

    name: str
    op_type: str
    before: float | None
    after: float | None
    before_share: float | None
    after_share: float | None


@dataclass(frozen=True)
class Ranking:
    """Layers by one figure: the first ones, those behind the fold, how many are left out."""

    unit: str
    top: list[Bar]
    rest: list[Bar]
    left_out: int


@dataclass(frozen=True)
class Strip:
    """One figure of all layers in the order of the network, as SVG paths.

    ``before`` and ``after`` are filled bars; ``peak`` is the value at full height; ``names`` are
    the layers for the pointer, empty where there are too many.
    """

    unit: str
    width: int
    peak: float
    before: str
    after: str
    names: list[str]


@dataclass(frozen=True)
class Group:
    """Nodes of which the same was said."""

    text: str
    nodes: list[str]


def grouped(said: Iterable[Any], attribute: str) -> list[Group]:
    """Records of nodes by what their ``attribute`` says, largest groups first."""
    groups: dict[str, list[str]] = {}
    for item in said:
        groups.setdefault(getattr(item, attribute), []).append(item.node)
    items = [Group(text, nodes) for text, nodes in groups.items()]
    return sorted(items, key=lambda group: -len(group.nodes))


def rankings(layers: Sequence[LayerRecord]) -> list[Ranking]:
    """Layers by bytes, time and noise, worst first; a figure that no layer has is left out."""
    ranked = [_ranking(unit, layers, *values) for unit, values in _FIGURES.items()]
    return [item for item in ranked if item.top]


def _ranking(unit: str, layers: Sequence[LayerRecord], before: Value, after: Value) -> Ranking:
    rows = [(item, before(item), after(item)) for item in layers]
    rows = [row for row in rows if row[1] or row[2] is not None]
    if unit == "db":
        rows.sort(key=lambda row: row[2] or 0.0)
    else:
        rows.sort(key=lambda row: -max(row[1] or 0.0, row[2] or 0.0))
    longest = max((_height(unit, value) for row in rows for value in row[1:]), default=0.0)
    bars = [
        Bar(item.node, item.op_type, b, a, _share(unit, b, longest), _share(unit, a, longest))
        for item, b, a in rows
    ]
    end = _TOP + _FOLDED
    return Ranking(unit, bars[:_TOP], bars[_TOP:end], max(len(bars) - end, 0))


def _share(unit: str, value: float | None, longest: float) -> float | None:
    if value is None or longest <= 0:
        return None
    return round(100 * _height(unit, value) / longest, 2)


def _height(unit: str, value: float | None) -> float:
    """What a bar shows of a value: no less than nothing, no more dB than rounding leaves."""
    shown = max(value or 0.0, 0.0)
    return min(shown, _EXACT_DB) if unit == "db" else shown


def strips(layers: Sequence[LayerRecord]) -> list[Strip]:
    """Bytes, time and noise along the network; a figure that no layer has is left out."""
    drawn = [_strip(unit, layers, *values) for unit, values in _FIGURES.items()]
    return [item for item in drawn if item.peak > 0]


def _strip(unit: str, layers: Sequence[LayerRecord], before: Value, after: Value) -> Strip:
    pairs = [(_height(unit, before(item)), _height(unit, after(item))) for item in layers]
    return strip_of(unit, pairs, [item.node for item in layers])


def strip_of(
    unit: str,
    pairs: Sequence[tuple[float, float]],
    names: Sequence[str],
    peak: float | None = None,
) -> Strip:
    """Bars before and after, with names for the pointer; ``peak`` is the largest unless given."""
    peak = max((value for pair in pairs for value in pair), default=0.0) if peak is None else peak
    return Strip(
        unit=unit,
        width=len(pairs),
        peak=peak,
        before=_bars([pair[0] for pair in pairs], peak, 0.84),
        after=_bars([pair[1] for pair in pairs], peak, 0.5 if unit != "db" else 0.84),
        names=list(names) if len(names) <= _NAMED else [],
    )


def _bars(values: Sequence[float], peak: float, width: float) -> str:
    """A path of upright bars, one unit apart, each ``width`` wide, standing on the bottom."""
    if peak <= 0:
        return ""
    margin = (1 - width) / 2
    return "".join(
        f"M{index + margin:.2f} {HEIGHT}h{width}v{-HEIGHT * value / peak:.1f}h-{width}z"
        for index, value in enumerate(values)
        if value > 0
    )
