"""Columns of packed detections, told from their values, and from numbers of any kind."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from graphopt.tasks.packed_rows import columns_of
from graphopt.tasks.task import Columns

RNG = np.random.default_rng(0)
ROWS = 12
LOW = RNG.uniform(0, 300, (ROWS, 2))
BOX = np.concatenate([LOW, LOW + RNG.uniform(1, 90, (ROWS, 2))], axis=1)
SCORE = RNG.uniform(0, 1, (ROWS, 1))
CLASS = RNG.integers(0, 80, (ROWS, 1)).astype(float)
PICTURE = np.zeros((ROWS, 1))


def _beside(*parts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (_beside(BOX, SCORE), Columns(0, 4)),
        (_beside(BOX, SCORE, CLASS), Columns(0, 4, (5,))),
        (_beside(BOX, CLASS, SCORE), Columns(0, 5, (4,))),
        (_beside(CLASS, SCORE, BOX), Columns(2, 1, (0,))),
        (_beside(PICTURE, BOX, CLASS, SCORE), Columns(1, 6, (0, 5))),
        (_beside(PICTURE, CLASS, SCORE, BOX), Columns(3, 2, (0, 1))),
        (_beside(BOX, CLASS), Columns(0, None, (4,))),
    ],
)
def test_columns_wherever_they_stand(rows: NDArray[np.float64], columns: Columns) -> None:
    assert columns_of([rows[:5], rows[5:5], rows[5:]]) == columns
    filled = np.concatenate([rows, np.zeros((4, rows.shape[1]))])
    assert columns_of([filled.astype(np.float32)]) == columns


@pytest.mark.parametrize(
    "rows",
    [
        RNG.standard_normal((ROWS, 6)),
        RNG.uniform(0, 1, (ROWS, 6)),
        np.sort(RNG.uniform(0, 1, (ROWS, 6)), axis=1),  # six quantiles
        _beside(BOX, SCORE, 9 * SCORE),
        _beside(BOX),
        _beside(BOX, SCORE, CLASS, CLASS, CLASS),
        _beside(BOX, SCORE, CLASS)[:3],
        np.full((ROWS, 6), np.nan),
        CLASS.astype(np.int64).repeat(6, axis=1),
        np.zeros((0, 6)),
        np.zeros((ROWS, 6)),
    ],
)
def test_other_numbers_are_no_detections(rows: NDArray[np.float64]) -> None:
    assert columns_of([rows]) is None


def test_where_columns_are_known_to_differ_less_evidence_is_enough() -> None:
    logits = _beside(BOX, 9 * SCORE, CLASS)
    assert columns_of([logits]) is None
    assert columns_of([logits], packed=True) == Columns(0, None, (5,))
    one = _beside(BOX, SCORE, CLASS)[:1]
    assert columns_of([one], packed=True) == Columns(0, 4, (5,))
    assert columns_of([RNG.standard_normal((ROWS, 6))], packed=True) is None


def test_tables_of_other_widths_are_none() -> None:
    assert columns_of([]) is None
    assert columns_of([_beside(BOX, SCORE), _beside(BOX, SCORE, CLASS)]) is None
