"""Each kind of output by its own figures: what counts, what decides, what is no evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.observe.request import Rows
from graphopt.tasks.compare import Numbers, Sampling
from graphopt.tasks.equal import EqualValues
from graphopt.tasks.quality import OutputQuality, share_db
from graphopt.tasks.task import Task

ONE = Rows(1, 1, first=True)


def _numbers(task: Task, right: Any, answer: Any, *, telling: bool = True) -> OutputQuality:
    """Samples lie along the leading axis of both."""
    comparator = Numbers(task, Sampling(telling))
    rows = Rows(len(right), len(right), first=True)
    comparator.add({"y": np.asarray(right)}, {"y": np.asarray(answer)}, rows)
    return comparator.found()["y"]


def _equal(kind: Any, right: Any, answer: Any) -> OutputQuality:
    comparator = EqualValues(Task("y", kind))
    comparator.add({"y": np.asarray(right)}, {"y": np.asarray(answer)}, ONE)
    return comparator.found()["y"]


def test_a_constant_beside_small_answers_hides_nothing() -> None:
    rng = np.random.default_rng(0)
    right = 1000 + rng.standard_normal((64, 1))
    found = _numbers(Task("y", "regression"), right, right + rng.standard_normal((64, 1)))
    assert found.sqnr_db == pytest.approx(60, abs=1.5)
    assert found.about_mean_db == pytest.approx(0, abs=2)
    assert found.decides_db == found.about_mean_db


@pytest.mark.parametrize("shape", [(300, 1), (300, 4)])
def test_a_large_constant_hides_only_what_rounding_is(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    right = (1000 + 0.008 * rng.standard_normal(shape)).astype(np.float32)
    answer = (right + 0.006 * rng.standard_normal(shape)).astype(np.float32)
    found = _numbers(Task("y", "regression", axis=1), right, answer)
    assert found.sqnr_db is not None
    assert found.sqnr_db > 100
    assert found.about_mean_db == pytest.approx(2.5, abs=1)
    half = _numbers(Task("y", "regression", axis=1, rounding=2.0**-12), right, answer)
    assert half.decides_db == half.sqnr_db
    noise = right.dtype.type(1000) + rng.integers(-2, 3, shape).astype(np.float32) * 2**-14
    constant = _numbers(Task("y", "regression", axis=1), noise, answer)
    assert constant.about_mean_db is None
    assert constant.worst_slice is None


def test_a_class_that_hardly_moves_vetoes_nothing() -> None:
    rng = np.random.default_rng(0)
    right = rng.standard_normal((50, 10)) * 5
    right[:, 3] *= 0.01
    answer = right + 0.1 * rng.standard_normal(right.shape)
    found = _numbers(Task("y", "classes", axis=1, form="logits"), right, answer)
    assert found.worst_slice is None
    assert found.decides_db is not None
    assert found.decides_db > 30
    same = 100 * (right.argmax(1) == answer.argmax(1)).mean()
    assert found.agreement == pytest.approx(same)
    regression = _numbers(Task("y", "regression", axis=1), right, answer)
    assert regression.worst_slice is not None
    assert (regression.worst_slice.axis, regression.worst_slice.index) == (1, 3)
    assert regression.agreement is None


def test_random_feeds_do_not_say_how_far_an_output_varies() -> None:
    rng = np.random.default_rng(0)
    right = 100 + rng.standard_normal((64, 4))
    answer = right + rng.standard_normal((64, 4))
    found = _numbers(Task("y", "regression", axis=1), right, answer, telling=False)
    assert found.decides_db is not None
    assert found.decides_db > 38


def test_decisions_of_yes_or_no_are_those_at_the_threshold() -> None:
    right = np.array([[0.9], [0.1], [0.2], [0.3]])
    answer = np.array([[0.4], [0.1], [0.2], [0.6]])
    found = _numbers(Task("y", "binary", form="probabilities"), right, answer)
    assert found.agreement == 50
    assert found.unusual == 0  # no yes in common
    logits = _numbers(Task("y", "binary", form="logits"), right - 0.5, answer - 0.5)
    assert logits.agreement == 50


@pytest.mark.parametrize(("shape", "axis"), [((2, 5, 6, 7), 1), ((3, 300, 2), 1), ((4, 9), 1)])
def test_the_largest_class_along_any_axis(shape: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(0)
    right = rng.integers(0, 4, shape).astype(np.float32)  # with ties: the first one
    answer = right + rng.integers(0, 2, shape).astype(np.float32)
    found = _numbers(Task("y", "classes", axis=axis, form="logits"), right, answer)
    same = (right.argmax(axis) == answer.argmax(axis)).mean()
    assert found.agreement == pytest.approx(100 * same)


def test_what_cannot_be_compared_is_no_evidence() -> None:
    nothing = _numbers(Task("y", "regression"), np.zeros((1, 0)), np.zeros((1, 0)))
    infinite = np.full((2, 3), -np.inf)
    both = _numbers(Task("y", "regression"), infinite, infinite)
    empty = _equal("indices", np.zeros(0, np.int64), np.zeros(0, np.int64))
    for found, words in ((nothing, "no values"), (both, "infinite"), (empty, "no values")):
        assert not found.compared
        assert found.decides_db is None
        assert words in found.reason
    assert both.not_finite == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.array([[1.0, np.nan]]), "sample 0: NaN"),
        (np.array([[1.0, np.inf]]), "sample 0: infinity"),
        (np.array([[1.0, 2.0, 3.0]]), "sample 0: shape [1, 3] where the model before has [1, 2]"),
        (["a"], "sample 0: no numbers"),
    ],
)
def test_an_answer_that_is_none_is_named(answer: Any, words: str) -> None:
    comparator = Numbers(Task("y", "regression"), Sampling())
    comparator.add({"y": np.array([[1.0, 2.0]])}, {"y": answer}, ONE)
    found = comparator.found()["y"]
    assert words in found.fault
    assert found.decides_db == -300


def test_values_of_indices_are_equal_or_not() -> None:
    right = np.arange(100)
    answer = right.copy()
    answer[:3] = 9999
    found = _equal("indices", right, answer)
    assert found.agreement == 97
    assert found.error == pytest.approx(0.03)
    assert found.sqnr_db is None
    assert found.decides_db == pytest.approx(share_db(0.03))
    assert found.unusual is None


def test_a_mask_that_lost_all_is_not_right_for_being_mostly_empty() -> None:
    right = np.zeros((10, 10), bool)
    right[0, :5] = True
    lost = _equal("mask", right, np.zeros_like(right))
    assert lost.agreement == 95
    assert lost.decides_db == 0
    answer = right.copy()
    answer[0, 0] = False
    found = _equal("mask", right, answer)
    dice = 2 * 4 / (5 + 4)
    assert found.unusual == pytest.approx(100 * dice)
    assert found.error == pytest.approx(1 - dice)
    assert _equal("mask", right, right).decides_db == 300


def test_strings_are_equal_or_not() -> None:
    right = np.array(["a", "b", "c", "d"], object)
    found = _equal("texts", right, np.array(["a", "b", "c", "a"], object))
    assert (found.agreement, found.error) == (75, 0.25)


def test_an_axis_of_free_size_is_no_axis_of_slices() -> None:
    rng = np.random.default_rng(0)
    comparator = Numbers(Task("y", "regression"), Sampling())
    for length in (5, 7):
        right = rng.standard_normal((1, length, 3))
        comparator.add({"y": right}, {"y": right + 0.1}, ONE)
    worst = comparator.found()["y"].worst_slice
    assert worst is not None
    assert worst.axis == 2
