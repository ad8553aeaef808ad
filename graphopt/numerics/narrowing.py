"""How much each group of channels gives so that a whole costs no more than it may.

Each group has a curve: what the loss of its first k channels, in the order in which they go,
does to the answers. What a choice of widths costs is not a sum over groups, since a layer costs
the product of what it reads and what it makes; so groups give way step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Curve", "allocate", "damage_between", "even_widths", "widths_of"]

Floats = NDArray[np.float64]

_LEAST = 1e-9
"""What is measured as nothing, or less by rounding, must have a logarithm all the same."""
_STRIDES = (1, 2, 4, 8, 16)
"""How many widths a group may go down in one step: over a hump of its curve."""
_GIVEN = (1, 2, 4)
_EXCHANGES = 100
_PRICES, _SWEEPS = 14, 6
_CLOSE = 0.01
"""Two choices whose damage differs by less are as good as each other."""


@dataclass(frozen=True, eq=False)
class Curve:
    """What a group may be cut to.

    Attributes:
        widths: Units that may be kept, falling; the first is all of them.
        damage: What each of them does to the answers, never falling; that of the first is 0.
    """

    widths: tuple[int, ...]
    damage: Floats

    def at(self, width: int) -> float:
        """The damage at one of the widths."""
        return float(self.damage[self.widths.index(width)])

    def times(self, factor: float) -> Curve:
        """The same with all damage multiplied."""
        return Curve(self.widths, self.damage * factor)


def widths_of(units: int, step: int, least: int) -> tuple[int, ...]:
    """All of the units, then the multiples of ``step`` below, down to ``least``.

    >>> widths_of(30, 8, 1)
    (30, 24, 16, 8)
    """
    below = range((units - 1) // step * step, 0, -step)
    return (units, *(width for width in below if width >= least))


def damage_between(errors: Floats, gone: Sequence[int], measured: Sequence[float]) -> Floats:
    """What the loss of the first k units does, from what that of some numbers of them did.

    Between two measurements the logarithm of the damage is linear in that of the error, outside
    they are proportional.

    >>> damage_between(np.array([0.0, 1.0, 2.0, 4.0]), [2], [0.5]).tolist()
    [0.0, 0.25, 0.5, 1.0]

    Args:
        errors: ``(units + 1,)`` of an ``Elimination``.
        gone: Units that were gone in each measurement, rising and above 0.
        measured: The damage then.

    Returns:
        ``(units + 1,)``, 0 at the start and never falling.
    """
    known = np.log(np.maximum.accumulate(np.maximum(errors[list(gone)], _LEAST)))
    found = np.log(np.maximum.accumulate(np.maximum(measured, _LEAST)))
    asked = np.log(np.maximum(errors, _LEAST))
    inside = np.interp(asked, known, found)
    below, above = np.minimum(asked - known[0], 0), np.maximum(asked - known[-1], 0)
    damage = np.exp(inside + below + above)
    damage[0] = 0.0
    return np.asarray(np.maximum.accumulate(damage))


def allocate(
    curves: Sequence[Curve],
    cost: Callable[[Sequence[int]], float],
    budget: float,
) -> list[int]:
    """Widths that cost no more than the budget, with little damage in all.

    Two starts are tried. Step by step the group gives whose damage rises least for what it saves at
    the widths that the others have by then; what goes beyond the budget saves nothing. And at one
    price for all, each group takes the width at which damage and price together are least, the
    price rising until the budget is kept: that sees steps which only pay together. From either,
    pairs of groups exchange as long as that helps, and the one with less damage is taken.

    Args:
        curves: Of each group.
        cost: Of a choice of widths, in any unit; it never rises where a width falls, or nearly so.
        budget: What it may cost, in the same unit.

    Returns:
        The width of each group; the narrowest of all where even they cost more.
    """
    at = _step_by_step(curves, cost, budget)
    if cost(_widths(curves, at)) > budget:
        return _widths(curves, at)
    priced = _at_one_price(curves, cost, budget)
    for start in [at] if priced is None else [at, priced]:
        for _ in range(_EXCHANGES):
            if not _exchange(curves, start, cost, budget):
                break
    if priced is not None and _damage(curves, priced) < (1 - _CLOSE) * _damage(curves, at):
        at = priced
    return _widths(curves, at)


def _step_by_step(
    curves: Sequence[Curve], cost: Callable[[Sequence[int]], float], budget: float
) -> list[int]:
    """Which width each group has once the budget is kept, or nothing more saves anything."""
    at = [0] * len(curves)
    now = cost(_widths(curves, at))
    while now > budget:
        steps = list(_steps(curves, at, cost, now))
        if not steps:
            break
        missing = now - budget
        best = min(steps, key=lambda step: step.rise / min(now - step.cost, missing))
        at[best.group] = best.at
        now = best.cost
    return at


def _at_one_price(
    curves: Sequence[Curve], cost: Callable[[Sequence[int]], float], budget: float
) -> list[int] | None:
    """The widths of least damage within the budget among some prices; None where none keeps it.

    Source: Everett 1963, Generalized Lagrange Multiplier Method for Optimum Allocation of
    Resources.
    """
    at, best, least = [0] * len(curves), None, np.inf
    low, high = 0.0, np.inf
    price = sum(float(curve.damage[-1]) for curve in curves) / max(cost(_widths(curves, at)), 1e-30)
    for _ in range(_PRICES):
        _take_cheapest(curves, at, cost, price)
        if cost(_widths(curves, at)) > budget:
            low = price
        else:
            high = price
            if (damage := _damage(curves, at)) < least:
                best, least = list(at), damage
        if np.isinf(high):
            price *= 4
        else:
            price = float(np.sqrt(low * high)) if low else high / 4
    return best


def _take_cheapest(
    curves: Sequence[Curve],
    at: list[int],
    cost: Callable[[Sequence[int]], float],
    price: float,
) -> None:
    """Give each group in turn the width of least damage and price, until none changes."""
    for _ in range(_SWEEPS):
        before = list(at)
        for group, curve in enumerate(curves):
            totals = [
                float(damage) + price * cost(_widths(curves, [*at[:group], to, *at[group + 1 :]]))
                for to, damage in enumerate(curve.damage)
            ]
            best = int(np.argmin(totals))
            if totals[best] < totals[at[group]]:
                at[group] = best
        if at == before:
            break


def _damage(curves: Sequence[Curve], at: Sequence[int]) -> float:
    return sum(float(curve.damage[index]) for curve, index in zip(curves, at, strict=True))


def even_widths(
    curves: Sequence[Curve],
    cost: Callable[[Sequence[int]], float],
    budget: float,
) -> list[int]:
    """The same share of each group, the largest within the budget; see ``allocate``.

    >>> even_widths([Curve((4, 3, 2, 1), np.zeros(4)), Curve((8, 4), np.zeros(2))], sum, 8.0)
    [3, 4]
    """
    shares = sorted({width / curve.widths[0] for curve in curves for width in curve.widths})
    widths = [curve.widths[-1] for curve in curves]
    for share in shares:
        wider = [
            max((w for w in curve.widths if w <= share * curve.widths[0]), default=curve.widths[-1])
            for curve in curves
        ]
        if cost(wider) > budget:
            break
        widths = wider
    return widths


@dataclass(frozen=True)
class _Step:
    group: int
    at: int
    rise: float
    cost: float


def _steps(
    curves: Sequence[Curve],
    at: Sequence[int],
    cost: Callable[[Sequence[int]], float],
    now: float,
) -> Sequence[_Step]:
    """Every step down that saves something."""
    steps = []
    for group, curve in enumerate(curves):
        for stride in _STRIDES:
            to = at[group] + stride
            if to >= len(curve.widths):
                break
            then = cost(_widths(curves, [*at[:group], to, *at[group + 1 :]]))
            if then < now:
                rise = float(curve.damage[to] - curve.damage[at[group]])
                steps.append(_Step(group, to, rise, then))
    return steps


def _exchange(
    curves: Sequence[Curve],
    at: list[int],
    cost: Callable[[Sequence[int]], float],
    budget: float,
) -> bool:
    """Let one group give a little more, or none, and another get back what it hurt more to lose.

    What the pair costs is told from what each of the two moves costs alone: never less than it
    really does, where costs are sums of products of widths.

    Returns:
        Whether there was such a pair; the best of them was taken.
    """
    now = cost(_widths(curves, at))
    moves = list(_moves(curves, at, cost))
    gives = [_Step(-1, 0, 0.0, now), *(move for move in moves if move.rise >= 0)]
    takes = [move for move in moves if move.rise < 0]
    pairs = sorted(
        (
            (give.rise + take.rise, one, two)
            for one, give in enumerate(gives)
            for two, take in enumerate(takes)
            if give.rise + take.rise < 0
            and give.group != take.group
            and give.cost + take.cost - now <= budget
        ),
    )
    for _, one, two in pairs:
        changed = list(at)
        for move in (gives[one], takes[two]):
            if move.group >= 0:
                changed[move.group] = move.at
        if cost(_widths(curves, changed)) <= budget:
            at[:] = changed
            return True
    return False


def _moves(
    curves: Sequence[Curve], at: Sequence[int], cost: Callable[[Sequence[int]], float]
) -> Iterator[_Step]:
    """A few widths down and up of each group, with what the whole costs then."""
    for group, curve in enumerate(curves):
        for stride in (*_GIVEN, *(-each for each in _GIVEN)):
            to = at[group] + stride
            if 0 <= to < len(curve.widths):
                then = cost(_widths(curves, [*at[:group], to, *at[group + 1 :]]))
                rise = float(curve.damage[to] - curve.damage[at[group]])
                yield _Step(group, to, rise if stride > 0 else min(rise, 0.0), then)


def _widths(curves: Sequence[Curve], at: Sequence[int]) -> list[int]:
    return [curve.widths[index] for curve, index in zip(curves, at, strict=True)]
