"""Average precision against the sum of its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.average_precision import average_precision

FOUND = st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=20)


@given(FOUND, st.integers(0, 3))
def test_it_is_the_area_under_precision_that_falls(
    found: list[tuple[int, bool]], missed: int
) -> None:
    wanted = max(1, missed + sum(right for _, right in found))
    ranked = sorted(found, key=lambda each: -each[0])
    points = [(0.0, 1.0)]
    for number in range(1, len(ranked) + 1):
        hits = sum(right for _, right in ranked[:number])
        points.append((hits / wanted, hits / number))
    area = sum(
        (points[k][0] - points[k - 1][0]) * max(p for _, p in points[k:])
        for k in range(1, len(points))
    )
    scores = np.array([score for score, _ in found], np.float64)
    right = np.array([right for _, right in found], bool)
    assert average_precision(scores, right, wanted) == pytest.approx(area)
