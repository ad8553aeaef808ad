"""Distances of answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.numerics.divergence import class_divergence, relative_error


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 8))
def test_divergence_is_that_of_its_definition(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    wanted, given_ = rng.normal(size=(2, 5, 7))
    p, q = (np.exp(each / temperature) for each in (wanted, given_))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    right = (p * np.log(p / q)).sum(1).mean() * temperature**2
    found = class_divergence(wanted, given_, 1, temperature)
    assert found == pytest.approx(right, rel=1e-9, abs=1e-12)


def test_what_adds_to_all_classes_changes_nothing() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 4, 2))
    assert class_divergence(scores, scores + 5, 1) == pytest.approx(0, abs=1e-12)


def test_chances_are_read_as_such() -> None:
    chances = np.array([[0.25, 0.75], [0.0, 1.0]])
    assert class_divergence(chances, chances, 1, chances=True) == 0
    assert class_divergence(chances, chances[::-1], 1, chances=True) > 0.1


def test_relative_error() -> None:
    wanted = np.array([1.0, -2.0, 2.0])
    assert relative_error(wanted, np.zeros(3)) == 1
    assert relative_error(np.zeros(3), np.zeros(3)) == 0
    assert relative_error(np.zeros(3), wanted) == 1
