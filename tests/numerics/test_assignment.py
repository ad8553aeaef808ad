"""The best form of each thing under a budget, against all there are."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.allocation import Priced, allot
from graphopt.numerics.assignment import Border, Shared, assign

Number = st.integers(0, 50).map(float)
Choices = st.lists(
    st.lists(st.builds(Priced, Number, Number), min_size=1, max_size=3), min_size=1, max_size=4
)
_GAP = 1e-3
"""The solver stops within 0.01 % of the least loss."""


def total(
    choices: list[list[Priced]],
    found: tuple[int, ...],
    shared: list[Shared],
    borders: list[Border],
) -> tuple[float, float]:
    """Cost and loss of a choice."""
    chosen = [each[index] for each, index in zip(choices, found, strict=True)]
    pairs = set(enumerate(found))
    chosen += [each.price for each in shared if pairs.intersection(each.needed)]
    for border in borders:
        (one, kind), (other, others) = border.sides
        chosen += [border.price] if (found[one] in kind) != (found[other] in others) else []
    return sum(each.cost for each in chosen), sum(each.loss for each in chosen)


def shares(choices: list[list[Priced]], draw: st.DataObject) -> list[Shared]:
    pairs = [(thing, form) for thing, each in enumerate(choices) for form in range(len(each))]
    needed = st.lists(st.sampled_from(pairs), min_size=1, max_size=4, unique=True).map(tuple)
    return draw.draw(
        st.lists(st.builds(Shared, st.builds(Priced, Number, Number), needed), max_size=3)
    )


def drawn_borders(choices: list[list[Priced]], draw: st.DataObject) -> list[Border]:
    if len(choices) < 2:
        return []
    found = []
    for _ in range(draw.draw(st.integers(0, 3))):
        things = draw.draw(
            st.lists(st.integers(0, len(choices) - 1), min_size=2, max_size=2, unique=True)
        )
        sides = []
        for thing in things:
            forms = st.lists(st.integers(0, len(choices[thing]) - 1), unique=True)
            sides.append((thing, tuple(draw.draw(forms))))
        price = draw.draw(st.builds(Priced, Number, Number))
        found.append(Border(price, (sides[0], sides[1])))
    return found


@given(Choices, st.integers(0, 200).map(float), st.data())
def test_it_is_the_best_of_all_choices(
    choices: list[list[Priced]], budget: float, draw: st.DataObject
) -> None:
    shared, borders = shares(choices, draw), drawn_borders(choices, draw)
    every = itertools.product(*(range(len(each)) for each in choices))
    allowed = [
        loss
        for cost, loss in (total(choices, each, shared, borders) for each in every)
        if cost <= budget
    ]
    found = assign(choices, budget, shared, borders)
    if not allowed:
        assert found is None
        return
    assert found is not None
    cost, loss = total(choices, tuple(found), shared, borders)
    assert cost <= budget + 1e-6
    assert loss <= min(allowed) * (1 + _GAP) + 1e-6


def test_it_spends_what_greedy_steps_leave() -> None:
    choices = [[Priced(6, 0), Priced(0, 6)], [Priced(5, 0), Priced(0, 5.5)]]
    choices += [[Priced(5, 0), Priced(0, 5.4)]]
    greedy = total(choices, tuple(allot(choices, 10)), [], [])[1]
    found = assign(choices, 10)
    assert found == [1, 0, 0]
    assert total(choices, tuple(found), [], [])[1] <= greedy


def test_what_is_shared_draws_neighbours_along() -> None:
    """Alone none pays what it costs to begin with; both together do."""
    choices = [[Priced(0, 5), Priced(1, 0)]] * 2
    shared = [Shared(Priced(0, 8), ((0, 1), (1, 1)))]
    assert assign(choices, 1, shared) == [0, 0]
    assert assign(choices, 2, shared) == [1, 1]


def test_numbers_of_very_different_size() -> None:
    choices = [[Priced(1e9, 0), Priced(1, 1e-12)], [Priced(1e9, 0), Priced(1, 1e-6)]]
    assert assign(choices, 1e9 + 1) == [1, 0]


@pytest.mark.parametrize("budget", [0.0, 10.0])
def test_nothing_to_choose(budget: float) -> None:
    assert assign([], budget) == []
