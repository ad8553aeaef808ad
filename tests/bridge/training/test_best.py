"""Which look at the held-out part is the best."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.bridge.training.best import BestSoFar, Look
from graphopt.bridge.training.figures import Share

ACCURACY = Share("accuracy %")


def look(distance: float, right: str) -> Look:
    """One sample a group: ``+`` is right."""
    return Look(distance, np.array([[mark == "+", 1] for mark in right], np.float64))


def kept(*looks: Look, figure: Share | None = ACCURACY) -> int:
    best = BestSoFar(figure)
    return [n for n, each in enumerate(looks) if best.takes(each, first=n == 0)][-1]


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        pytest.param([(1, "++--"), (0.5, "++--")], 1, id="the distance decides among equals"),
        pytest.param([(1, "++--"), (1.5, "++--")], 0, id="the same by a greater distance"),
        pytest.param([(1, "+++-"), (0.5, "++--")], 0, id="a figure never falls below the start"),
        pytest.param([(1, "+---"), (1.5, "++--")], 0, id="one sample may turn by chance"),
        pytest.param([(1, "+---"), (0.5, "++--")], 1, id="one sample and the distance"),
        pytest.param([(1, "+----"), (1.5, "++++-")], 1, id="three samples do not"),
        pytest.param(
            [(1, "+-----"), (0.8, "++++++"), (0.5, "+++---")], 1, id="far below the highest"
        ),
        pytest.param([(1, "+-----"), (0.8, "++++++"), (0.5, "+++++-")], 2, id="near the highest"),
        pytest.param(
            [(1, "+-----"), (0.5, "++----"), (0.8, "++++++")], 2, id="the highest leaves it behind"
        ),
        pytest.param([(math.inf, "++"), (9, "--"), (8, "-+")], 2, id="a start that is no number"),
        pytest.param([(1, "--"), (math.inf, "++")], 0, id="no number is never better"),
    ],
)
def test_the_figure_decides_and_within_its_noise_the_distance(
    looks: list[tuple[float, str]], expected: int
) -> None:
    assert kept(*(look(*each) for each in looks)) == expected


def test_where_the_classes_of_the_same_samples_turn_both_ways_the_noise_is_wide() -> None:
    start, other = look(1, "+" * 10 + "-" * 12), look(2, "-" * 10 + "+" * 12)
    assert kept(start, other) == 0
    assert kept(start, look(2, "+" * 12 + "-" * 10)) == 1


def test_without_a_figure_the_distance_decides_alone() -> None:
    assert kept(look(1, "++"), look(0.5, "--"), look(0.7, "++"), figure=None) == 1


def test_one_group_tells_nothing_of_the_noise() -> None:
    assert kept(look(1, "-"), look(2, "+")) == 0


def test_weights_that_are_not_the_start_bind_no_later_ones() -> None:
    best = BestSoFar(ACCURACY)
    assert best.takes(look(1, "+++-"), first=False)
    assert best.takes(look(0.5, "++--"), first=False)


marks = st.text("+-", min_size=6, max_size=6)
looked = st.lists(st.tuples(st.floats(0, 9), marks), min_size=1, max_size=8)


@given(looked)
def test_what_is_kept_is_as_right_as_the_start(looks: list[tuple[float, str]]) -> None:
    found = looks[kept(*(look(*each) for each in looks))]
    assert found[1].count("+") >= looks[0][1].count("+")


@given(looked, st.integers(0, 8))
def test_a_run_that_is_taken_up_decides_as_one_without_a_break(
    looks: list[tuple[float, str]], after: int
) -> None:
    best, decisions = BestSoFar(ACCURACY), []
    for number, each in enumerate(looks):
        if number == after:
            stored, best = best.state(), BestSoFar(ACCURACY)
            best.load(stored)
        decisions.append(best.takes(look(*each), first=number == 0))
    whole = BestSoFar(ACCURACY)
    assert decisions == [whole.takes(look(*e), first=n == 0) for n, e in enumerate(looks)]
