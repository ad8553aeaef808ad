"""One budget spread over many choices: what to give up where, at the least loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Priced", "allot"]


@dataclass(frozen=True)
class Priced:
    """One form of a thing.

    Attributes:
        cost: What it takes.
        loss: What it does harm; losses of several things add up.
    """

    cost: float
    loss: float


def allot(choices: Sequence[Sequence[Priced]], budget: float) -> list[int]:
    """Which form each thing gets, so that all together cost no more than the budget.

    Greedy: from the forms of the least loss on, always the step of the smallest rise of loss for
    what it saves, whichever thing makes it and however far it goes. What results loses least of all
    that cost as little, wherever a step ends (the convex hull of Everett 1963); within the last
    step, what it saved too much is spent again where it gains most.

    Args:
        choices: The forms of each thing; at least one.
        budget: Most that the chosen ones may cost together. Where even the cheapest cost more,
            these are taken.

    Source: Everett 1963, Generalized Lagrange Multiplier Method; Shoham and Gersho 1988, Efficient
    Bit Allocation for an Arbitrary Set of Quantizers.

    >>> allot([[Priced(4, 0), Priced(1, 3)], [Priced(4, 0), Priced(2, 1)]], 6)
    [0, 1]
    """
    chosen = [
        min(range(len(each)), key=lambda index: (each[index].loss, each[index].cost))
        for each in choices
    ]
    total = sum(each[index].cost for each, index in zip(choices, chosen, strict=True))
    while total > budget:
        step = _cheapest_step(choices, chosen)
        if step is None:
            return chosen
        thing, index = step
        total += choices[thing][index].cost - choices[thing][chosen[thing]].cost
        chosen[thing] = index
    return _spent(choices, chosen, budget - total)


def _cheapest_step(
    choices: Sequence[Sequence[Priced]], chosen: Sequence[int]
) -> tuple[int, int] | None:
    """The step down whose loss rises least for what it saves; of like ones that saves more."""
    steps = [
        ((form.loss - now.loss) / (now.cost - form.cost), form.cost - now.cost, thing, index)
        for thing, each in enumerate(choices)
        for now in [each[chosen[thing]]]
        for index, form in enumerate(each)
        if form.cost < now.cost
    ]
    return min(steps)[2:] if steps else None


def _spent(choices: Sequence[Sequence[Priced]], chosen: list[int], left: float) -> list[int]:
    """Forms of less loss as long as there is something left for one."""
    while True:
        gains = [
            (now.loss - form.loss, thing, index)
            for thing, each in enumerate(choices)
            for now in [each[chosen[thing]]]
            for index, form in enumerate(each)
            if form.loss < now.loss and form.cost - now.cost <= left
        ]
        if not gains:
            return chosen
        _, thing, index = max(gains)
        left -= choices[thing][index].cost - choices[thing][chosen[thing]].cost
        chosen[thing] = index
