"""Zeros and ranks that passes left in the weights, along the network and as lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.report.charts import Strip, strip_of
from graphopt.report.words import count
from graphopt.run.record import PassRecord

__all__ = ["Listed", "Row", "rank_lists", "zero_lists"]

_TOP = 15
_FOLDED = 300  # rows behind the fold; a reader of more takes the JSON report


@dataclass(frozen=True)
class Row:
    """A layer with a figure before and after; shares are in percent of the longest bar."""

    name: str
    note: str
    before: str
    after: str
    before_share: float
    after_share: float


@dataclass(frozen=True)
class Listed:
    """Layers of one pass with a figure before and after: along the network, and as a list.

    The list has the first of them, those behind the fold, and how many are left out.
    """

    name: str
    told: str
    strip: Strip
    top: list[Row]
    rest: list[Row]
    left_out: int


def zero_lists(passes: Sequence[PassRecord]) -> list[Listed]:
    """Each pass that put zeros into weights."""
    return [_zeros(item) for item in passes if item.taken.zeros]


def _zeros(item: PassRecord) -> Listed:
    layers = item.taken.zeros
    shares = [(each.before / each.elements, each.after / each.elements) for each in layers]
    whole = sum(each.elements for each in layers)
    before, after = (
        sum(z) / whole for z in zip(*((e.before, e.after) for e in layers), strict=True)
    )
    rows = [
        Row(
            each.node,
            f"{count(each.elements)} weights",
            f"{old:.1%}",
            f"{new:.1%}",
            round(100 * old, 1),
            round(100 * new, 1),
        )
        for each, (old, new) in zip(layers, shares, strict=True)
    ]
    told = f"{before:.1%} -> {after:.1%} of {whole:,} weights in {len(layers)} layers are zero"
    names = [f"{row.name}: {row.before} -> {row.after}" for row in rows]
    return _listed(item.name, told, strip_of("share", shares, names, 1.0), rows)


def rank_lists(passes: Sequence[PassRecord]) -> list[Listed]:
    """Each pass that made products of thin weights."""
    return [_ranks(item) for item in passes if item.taken.ranks]


def _ranks(item: PassRecord) -> Listed:
    layers = item.taken.ranks
    longest = max(sum(each.before) for each in layers)
    rows = [
        Row(
            each.node,
            each.form,
            ", ".join(map(str, each.before)),
            ", ".join(map(str, each.after)),
            round(100 * sum(each.before) / longest, 1),
            round(100 * sum(each.after) / longest, 1),
        )
        for each in layers
    ]
    pairs = [(float(sum(each.before)), float(sum(each.after))) for each in layers]
    names = [f"{row.name}: {row.before} -> {row.after}" for row in rows]
    told = f"{len(layers)} layer{'' if len(layers) == 1 else 's'} became products of thin ones"
    return _listed(item.name, told, strip_of("rank", pairs, names), rows)


def _listed(name: str, told: str, strip: Strip, rows: list[Row]) -> Listed:
    end = _TOP + _FOLDED
    return Listed(name, told, strip, rows[:_TOP], rows[_TOP:end], max(len(rows) - end, 0))
