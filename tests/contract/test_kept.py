from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphopt.contract.kept import composed


@given(st.sets(st.integers(0, 9), min_size=1), st.data())
def test_two_removals_are_one(first: set[int], data: st.DataObject) -> None:
    values = np.arange(10) * 7
    one = {("x", 1): np.array(sorted(first))}
    then = sorted(data.draw(st.sets(st.integers(0, len(first) - 1))))
    two = {("x", 1): np.array(then, np.intp), ("y", 0): np.array([3])}
    both = composed(one, two)
    assert (values[both["x", 1]] == values[one["x", 1]][two["x", 1]]).all()
    assert both["y", 0].tolist() == [3]
    assert composed(one, {}) == one
