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

__all__ = ["Shared", "assign"]

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


def assign(
    choices: Sequence[Sequence[Priced]], budget: float, shared: Sequence[Shared] = ()
) -> list[int] | None:
    """The forms of least loss that together cost no more than the budget.

        min  sum_t,f loss[t,f] x[t,f] + sum_s loss[s] z[s]
        s.t. sum_t,f cost[t,f] x[t,f] + sum_s cost[s] z[s] <= budget
             sum_f x[t,f] = 1,  z[s] >= x[t,f] for each form that needs s,  x in {0, 1}

    A multiple-choice knapsack; solved by branch and bound, to within 0.01 % of the least loss.

    Args:
        choices: The forms of each thing; at least one.
        budget: Most that the chosen ones may cost together.
        shared: What several forms need and that costs once; neither price below zero.

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
    prices = [*forms, *(each.price for each in shared)]
    loss = np.array([each.loss for each in prices], np.float64)
    cost = np.array([each.cost for each in prices], np.float64)
    unit = float(np.abs(cost).max(initial=0.0)) or 1.0
    rows = [
        LinearConstraint(cost[None] / unit, -np.inf, budget / unit * (1 + _TIGHT)),
        LinearConstraint(_one_each(starts, len(prices)), 1.0, 1.0),
    ]
    links = [
        (len(forms) + index, int(starts[thing]) + form)
        for index, each in enumerate(shared)
        for thing, form in each.needed
    ]
    if links:
        rows.append(LinearConstraint(_implied(links, len(prices)), 0.0, np.inf))
    found = milp(
        loss / (float(np.abs(loss).max(initial=0.0)) or 1.0),
        integrality=np.r_[np.ones(len(forms)), np.zeros(len(shared))],
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


def _implied(links: Sequence[tuple[int, int]], columns: int) -> coo_array:
    """Rows that say ``what is shared - form``, not below zero."""
    index = np.arange(len(links))
    values = np.r_[np.ones(len(links)), -np.ones(len(links))]
    places = np.array(links).T.ravel()
    return coo_array((values, (np.r_[index, index], places)), shape=(len(links), columns))
