from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.spread import lowest_ranked, spread_ranks


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_lowest_of_all_ranks_in_order(total: int, count: int) -> None:
    ranks = spread_ranks(0, total)
    assert len(set(ranks.tolist())) == total
    expected = sorted(sorted(range(total), key=lambda at: ranks[at])[:count])
    assert lowest_ranked(total, count).tolist() == expected


def test_ranks_do_not_depend_on_where_one_starts() -> None:
    assert (spread_ranks(5, 7) == spread_ranks(0, 12)[5:]).all()


def test_any_leading_part_lies_evenly() -> None:
    for count in (10, 100, 1000):
        gaps = np.diff(lowest_ranked(100_000, count))
        assert gaps.max() <= 3 * 100_000 / count
