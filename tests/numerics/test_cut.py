"""Minimum cuts against brute force."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.cut import UNCUT, source_side

Edges = list[tuple[int, int, int]]
NODES = 6
EDGES = st.lists(
    st.tuples(
        st.integers(0, NODES - 1),
        st.integers(0, NODES - 1),
        st.one_of(st.integers(0, 9), st.just(UNCUT)),
    ),
    max_size=14,
)


def cost(side: set[int], edges: Edges) -> int:
    return sum(most for tail, head, most in edges if tail in side and head not in side)


def all_sides() -> list[set[int]]:
    rest = range(2, NODES)
    return [
        {0, *(node for node, taken in zip(rest, choice, strict=True) if taken)}
        for choice in product((False, True), repeat=len(rest))
    ]


@given(EDGES)
def test_no_cut_costs_less_and_none_of_that_cost_has_a_node_less(edges: Edges) -> None:
    side = source_side(NODES, edges)
    cheapest = min(cost(each, edges) for each in all_sides())
    if cheapest >= UNCUT:
        return
    assert cost(side, edges) == cheapest
    assert side == set.intersection(*(e for e in all_sides() if cost(e, edges) == cheapest))


def test_long_chains_do_not_recurse() -> None:
    chain = [(at, at + 1, 5) for at in range(2, 20_000)]
    assert source_side(20_001, [(0, 2, 5), *chain[:-1], (19_999, 1, 4)]) == {
        0,
        *range(2, 20_000),
    }
