"""The cosine piece by piece against the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.cosine import Cosine


@given(st.integers(0, 2**16), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_parts_give_the_cosine_of_the_whole(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((2, size)) for size in sizes]
    cosine = Cosine()
    for first, second in parts:
        cosine.add(first.astype(np.float32), second.astype(np.float32))
    a, b = np.concatenate(parts, axis=1)
    expected = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    assert cosine.value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("first", "second"), [([0.0], [1.0]), ([np.inf], [1.0]), ([np.nan], [1.0])]
)
def test_of_zeros_and_what_is_not_finite_there_is_none(
    first: list[float], second: list[float]
) -> None:
    cosine = Cosine()
    cosine.add(np.array(first), np.array(second))
    assert cosine.value is None


def test_after_a_failure_there_is_none() -> None:
    cosine = Cosine()
    cosine.add(np.ones(2), np.ones(2))
    assert cosine.value == pytest.approx(1)
    cosine.fail()
    assert cosine.value is None
