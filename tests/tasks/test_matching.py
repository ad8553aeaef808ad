"""Rows are matched as brute force would."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.tasks.matching import corners, match_boxes, match_equal, match_nearest, overlaps


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.uniform(0, 10, (count, 2))
    return np.concatenate([low, low + rng.uniform(1, 5, (count, 2))], axis=1)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (a, b)]
    return float(width * height / (sum(areas) - width * height))


@given(st.integers(0, 2**16))
def test_overlaps_of_both_forms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = _boxes(rng, 4), _boxes(rng, 5)
    expected = [[_overlap(x, y) for y in b] for x in a]
    np.testing.assert_allclose(overlaps(a, b), expected, atol=1e-12)

    def centred(boxes: np.ndarray) -> np.ndarray:
        size = boxes[:, 2:] - boxes[:, :2]
        return np.concatenate([boxes[:, :2] + size / 2, size], axis=1)

    found = overlaps(centred(a), centred(b), by_corners=False)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_corners_are_told_from_sizes() -> None:
    rng = np.random.default_rng(0)
    assert corners(_boxes(rng, 5))
    assert not corners(np.array([[300.0, 200, 40, 30]]))


@given(st.integers(0, 2**16))
def test_boxes_are_matched_to_most_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = _boxes(rng, 4)
    b = a[rng.permutation(4)] + rng.normal(0, 0.3, (4, 4))
    gains = overlaps(a, b)
    gains = np.where(gains >= 0.5, gains, 0)
    best = max(sum(gains[i, p[i]] for i in range(4)) for p in permutations(range(4)))
    pairs = match_boxes(a, b)
    assert sum(gains[i, j] for i, j in pairs) == pytest.approx(best)
    assert all(gains[i, j] >= 0.5 for i, j in pairs)


def test_boxes_of_other_classes_are_others() -> None:
    box = np.array([[0.0, 0, 2, 2]])
    ones, twos = np.array([[1]]), np.array([[2]])
    assert match_boxes(box, box, (ones, ones)).tolist() == [[0, 0]]
    assert match_boxes(box, box, (ones, twos)).tolist() == []


def test_equal_rows_each_once() -> None:
    first = np.array([[1, 2], [1, 2], [3, 4], [5, 6]])
    second = np.array([[5, 6], [1, 2], [7, 8]])
    assert match_equal(first, second).tolist() == [[0, 1], [3, 0]]


def test_the_nearest_row_and_none_that_is_far() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 3)) * [1, 100, 0.01]
    order = np.array([3, 1, 5, 0, 2, 4])
    b = a[order] + rng.normal(0, 0.01, (6, 3)) * [1, 100, 0.01]
    pairs = match_nearest(a, b)
    assert {(int(i), int(j)) for i, j in pairs} == {(int(i), j) for j, i in enumerate(order)}
    b[0] += [10, 1000, 0.1]
    assert 0 not in match_nearest(a, b)[:, 1]
    assert len(match_nearest(a, b[:0])) == 0
