from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.resized import resized

sides = st.integers(1, 9)


@given(sides, sides, sides, sides)
def test_each_place_takes_the_pixel_that_holds_its_middle(
    height: int, width: int, rows: int, columns: int
) -> None:
    values = np.arange(2 * height * width).reshape(2, height, width)
    found = resized(values, (rows, columns))
    assert found.shape == (2, rows, columns)
    for i in range(rows):
        for j in range(columns):
            at = int((i + 0.5) * height / rows + 1e-9), int((j + 0.5) * width / columns + 1e-9)
            assert (found[:, i, j] == values[:, at[0], at[1]]).all()


@given(sides, sides, st.integers(1, 4))
def test_what_was_enlarged_comes_back(height: int, width: int, factor: int) -> None:
    values = np.arange(height * width).reshape(height, width)
    larger = resized(values, (factor * height, factor * width))
    assert np.array_equal(larger, np.kron(values, np.ones((factor, factor), int)))
    assert np.array_equal(resized(larger, values.shape), values)
