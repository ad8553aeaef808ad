"""Outputs with as many rows as the data has: one more or less is an error of that size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.observe.request import Rows
from graphopt.tasks.compare import Sampling
from graphopt.tasks.quality import OutputQuality, share_db
from graphopt.tasks.rows import MatchedRows
from graphopt.tasks.task import Columns, Task

SCORES = Task("scores", "regression", axis=1, free_rows=True, rows_axis=0)
CELLS = Task("cells", "indices", free_rows=True, rows_axis=0)
ONE = Rows(1, 1, first=True)


def _matched(tasks: list[Task], *samples: tuple[dict[str, Any], dict[str, Any]]) -> Any:
    comparator = MatchedRows(tasks, Sampling())
    for right, answer in samples:
        comparator.add(right, answer, ONE)
    return comparator.found()


def _detections(count: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    cells = np.stack([np.arange(count), np.arange(count) % 3], axis=1)
    return {"scores": rng.standard_normal((count, 5)).astype(np.float32), "cells": cells}


def _cut(found: dict[str, Any], keep: Any) -> dict[str, Any]:
    return {name: values[keep] for name, values in found.items()}


def test_a_row_less_is_an_error_of_one_row() -> None:
    right = _detections(20)
    answer = _cut(right, [n for n in range(20) if n != 4])
    found = _matched([SCORES, CELLS], (right, answer))
    for quality in found.values():
        assert isinstance(quality, OutputQuality)
        assert quality.rows is not None
        assert (quality.rows.recall, quality.rows.precision) == (95, 100)
        assert (quality.rows.other_number, quality.rows.lists) == (1, 1)
        assert quality.error == pytest.approx(0.1)
        assert quality.decides_db == pytest.approx(share_db(0.1))
    assert found["scores"].sqnr_db == 300
    assert "cells" in found["scores"].rows.by


def test_a_sample_without_rows_that_gets_some_is_counted() -> None:
    none, some = _cut(_detections(3), slice(0)), _detections(2, 1)
    found = _matched([SCORES, CELLS], (none, some), (_detections(8), _detections(8)))
    rows = found["scores"].rows
    assert (rows.expected, rows.actual, rows.matched, rows.other_number) == (8, 10, 8, 1)
    only = _matched([SCORES, CELLS], (none, some))
    assert only["scores"].decides_db == 0
    nothing = _matched([SCORES, CELLS], (none, none))
    assert not nothing["scores"].compared
    assert nothing["scores"].decides_db is None


def test_rows_in_another_order_are_the_same_rows() -> None:
    right = _detections(12)
    order = np.random.default_rng(3).permutation(12)
    found = _matched([SCORES, CELLS], (right, _cut(right, order)))
    assert found["scores"].sqnr_db == 300
    alone = _matched([SCORES], ({"scores": right["scores"]}, {"scores": right["scores"][order]}))
    assert alone["scores"].sqnr_db == 300
    assert alone["scores"].rows.by == "the nearest row"


def test_boxes_are_matched_by_overlap_and_class() -> None:
    boxes = Task("boxes", "boxes", axis=1, free_rows=True, rows_axis=0)
    labels = Task("labels", "indices", free_rows=True, rows_axis=0)
    at = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]], np.float32)
    right = {"boxes": at, "labels": np.array([1, 2, 3])}
    moved = at[[2, 0, 1]] + np.float32(0.5)
    found = _matched([boxes, labels], (right, {"boxes": moved, "labels": np.array([3, 1, 7])}))
    rows = found["boxes"].rows
    assert (rows.matched, rows.expected, rows.actual) == (2, 3, 3)
    assert rows.by == "overlap of boxes and 'labels'"
    expected = 10 * np.log10(np.square(at[[0, 2]]).sum() / (8 * 0.25))
    assert found["boxes"].sqnr_db == pytest.approx(expected, abs=1e-4)
    assert found["labels"].agreement == 100
    assert found["boxes"].error == pytest.approx(2 / 3)


def test_rows_of_several_samples_in_one_list_are_counted_by_batch() -> None:
    right = _detections(20)
    comparator = MatchedRows([SCORES, CELLS], Sampling())
    comparator.add(right, _cut(right, slice(19)), Rows(4, 4, first=True))
    comparator.add(right, right, Rows(1, 4, first=False))
    rows = comparator.found()["scores"].rows
    assert rows is not None
    assert (rows.other_number, rows.lists, rows.batched) == (1, 2, True)
    single = _matched([SCORES, CELLS], (right, right))["scores"].rows
    assert (single.lists, single.batched) == (1, False)


def test_rows_along_another_axis() -> None:
    places = Task("places", "indices", free_rows=True, rows_axis=1)
    right = np.array([[0, 1, 2], [5, 6, 7]])
    found = _matched([places], ({"places": right}, {"places": right[:, :2]}))
    rows = found["places"].rows
    assert (rows.expected, rows.actual, rows.matched) == (3, 2, 2)


def test_outputs_with_other_numbers_of_rows_are_sets_of_their_own() -> None:
    other = Task("other", "regression", free_rows=True, rows_axis=0)
    right = {"scores": np.eye(4), "other": np.eye(3)}
    found = _matched([SCORES, other], (right, {"scores": np.eye(4)[:3], "other": np.eye(3)}))
    assert found["other"].rows.matched == found["other"].rows.actual == 3
    assert found["scores"].rows.matched == 3
    assert found["scores"].rows.expected == 4


def test_columns_that_differ_are_a_fault() -> None:
    found = _matched([SCORES], ({"scores": np.eye(3)}, {"scores": np.eye(4)}))
    assert found["scores"].fault == "sample 0: shape [4, 4] where the model before has [3, 3]"
    assert found["scores"].decides_db == -300


def _best(count: int, seed: int = 0) -> np.ndarray:
    """Packed rows ``(1, count, 6)`` of box, score and class, the best one first."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 600, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, 60, (count, 2))], axis=1)
    scores = np.sort(rng.uniform(0, 1, count))[::-1]
    classes = rng.integers(0, 5, count)
    return np.concatenate([boxes, scores[:, None], classes[:, None]], axis=1)[None]


PACKED = Columns(0, 4, (5,))
BEST = Task("best", "detections", axis=2, columns=PACKED, sorted_rows=True, rows_axis=1)


def test_best_rows_are_matched_whatever_their_order_and_the_rest_is_left_over() -> None:
    right = _best(50)
    shown = int((right[0, :, 4] >= 0.3).sum())
    order = np.arange(50)
    order[[3, 4, 10, 11]] = order[[4, 3, 11, 10]]
    answer = right[:, order].copy()
    answer[0, 45:] = _best(5, 1)[0] * [1, 1, 1, 1, 0.01, 1]  # others at the tail
    found = _matched([BEST], ({"best": right}, {"best": answer}))["best"]
    assert found.rows.by == "overlap of boxes and class"
    assert (found.rows.expected, found.rows.actual) == (shown, shown)
    assert (found.rows.matched, found.rows.right) == (shown, shown)
    assert found.sqnr_db == 300
    answer[0, 0, :4] += 1000
    moved = _matched([BEST], ({"best": right}, {"best": answer}))["best"]
    assert (moved.rows.matched, moved.rows.right) == (shown - 1, shown - 1)


def test_rows_are_boxes_only_where_the_reading_says_so() -> None:
    right = _best(20)
    numbers = Task("best", "regression", axis=2, sorted_rows=True, rows_axis=1)
    found = _matched([numbers], ({"best": right}, {"best": right}))["best"]
    assert found.rows.by == "the nearest row"
    first = np.roll(right, 2, axis=2)  # score and class in front
    moved = Columns(2, 0, (1,))
    task = Task("best", "detections", columns=moved, free_rows=True, rows_axis=1)
    found = _matched([task], ({"best": first}, {"best": first[:, ::-1]}))["best"]
    assert found.rows.by == "overlap of boxes and class"
    assert found.rows.matched == 20
    assert found.sqnr_db == 300


def test_a_score_near_the_cut_is_no_row_lost() -> None:
    right = _best(20)
    place = int((right[0, :, 4] >= 0.3).sum()) - 1
    answer = right.copy()
    answer[0, place, 4] = 0.29
    rows = _matched([BEST], ({"best": right}, {"best": answer}))["best"].rows
    assert (rows.expected, rows.actual) == (place + 1, place)
    assert (rows.recall, rows.precision) == (100, 100)
    assert rows.other_number == 1


def test_rows_behind_an_axis_of_samples_are_matched_sample_by_sample() -> None:
    comparator = MatchedRows([BEST], Sampling())
    right = np.concatenate([_best(10), _best(10, 1), _best(10, 2)])
    comparator.add({"best": right}, {"best": right[:, ::-1]}, Rows(2, 3, first=True))
    rows = comparator.found()["best"].rows
    assert rows is not None
    assert rows.lists == 2
    assert rows.expected == rows.matched == int((right[:2, :, 4] >= 0.3).sum())
