"""One form for each of many things under one budget, exactly, where things may share a cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from graphopt.numerics.allocation import Priced

__all__ = ["Border", "Shared", "assign"]

_GAP = 1e-4
_SECONDS = 10.0
_TIGHT = 1e-9
"""Of the budget: what rounding in the solver may add."""


@dataclass(frozen=True)
class Shared:
    """Something that costs once, however many of the forms that need it are chosen.

    Attributes:
        price: What it costs and how much harm it does.
        needed: The forms that need it, each by thing and index.
    """

    price: Priced
    needed: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Border:
    """Something that costs where of two things one has a form of a kind and the other has not.

    Attributes:
        price: What it costs and how much harm it does.
        sides: The two things, each with the indices of its forms of that kind.
    """

    price: Priced
    sides: tuple[tuple[int, tuple[int, ...]], tuple[int, tuple[int, ...]]]


def assign(
    choices: Sequence[Sequence[Priced]],
    budget: float,
    shared: Sequence[Shared] = (),
    borders: Sequence[Border] = (),
) -> list[int] | None:
    """The forms of least loss that together cost no more than the budget.

        min  sum_t,f loss[t,f] x[t,f] + sum_s loss[s] z[s]
        s.t. sum_t,f cost[t,f] x[t,f] + sum_s cost[s] z[s] <= budget
             sum_f x[t,f] = 1,  z[s] >= x[t,f] for each form that needs s,  x in {0, 1}
             z[b] >= | sum_f x[t,f] - sum_g x[u,g] | for each border b of things t and u

    A multiple-choice knapsack; solved by branch and bound, to within 0.01 % of the least loss.

    Args:
        choices: The forms of each thing; at least one.
        budget: Most that the chosen ones may cost together.
        shared: What several forms need and that costs once; neither price below zero.
        borders: What costs where two things differ in kind; the same.

    Returns:
        The index of the form of each thing; None where even the cheapest ones cost more.

    Source: Sinha and Zoltners 1979, The Multiple-Choice Knapsack Problem; solved by HiGHS (Huangfu
    and Hall 2018) through ``scipy.optimize.milp``.

    >>> assign([[Priced(4, 0), Priced(1, 3)], [Priced(4, 0), Priced(2, 1)]], 6)
    [0, 1]
    """
    forms = [form for each in choices for form in each]
    starts = np.cumsum([0, *(len(each) for each in choices)])
    if not forms:
        return []
    prices = [*forms, *(each.price for each in shared), *(each.price for each in borders)]
    loss = np.array([each.loss for each in prices], np.float64)
    cost = np.array([each.cost for each in prices], np.float64)
    unit = float(np.abs(cost).max(initial=0.0)) or 1.0
    rows = [
        LinearConstraint(cost[None] / unit, -np.inf, budget / unit * (1 + _TIGHT)),
        LinearConstraint(_one_each(starts, len(prices)), 1.0, 1.0),
    ]
    rules = list[dict[int, float]]()
    for index, each in enumerate(shared, start=len(forms)):
        rules += [{index: 1.0, int(starts[thing]) + form: -1.0} for thing, form in each.needed]
    for index, border in enumerate(borders, start=len(forms) + len(shared)):
        for sign in (1.0, -1.0):
            rule = {index: 1.0}
            for side, (thing, kind) in zip((sign, -sign), border.sides, strict=True):
                rule |= {int(starts[thing]) + form: side for form in kind}
            rules.append(rule)
    if rules:
        rows.append(LinearConstraint(_rows(rules, len(prices)), 0.0, np.inf))
    found = milp(
        loss / (float(np.abs(loss).max(initial=0.0)) or 1.0),
        integrality=np.r_[np.ones(len(forms)), np.zeros(len(shared) + len(borders))],
        bounds=Bounds(0.0, 1.0),
        constraints=rows,
        options={"mip_rel_gap": _GAP, "time_limit": _SECONDS},
    )
    if found.x is None:
        return None
    return [int(np.argmax(found.x[first:last])) for first, last in pairwise(starts)]


def _one_each(starts: NDArray[np.int64], columns: int) -> coo_array:
    """Rows that add up the forms of each thing."""
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    ones = np.ones(len(rows))
    return coo_array((ones, (rows, np.arange(len(rows)))), shape=(len(starts) - 1, columns))


def _rows(rules: Sequence[dict[int, float]], columns: int) -> coo_array:
    """Rows of a matrix by the columns that are not zero."""
    places = [(row, column) for row, rule in enumerate(rules) for column in rule]
    values = np.array([value for rule in rules for value in rule.values()])
    rows, cols = np.array(places).T
    return coo_array((values, (rows, cols)), shape=(len(rules), columns))
