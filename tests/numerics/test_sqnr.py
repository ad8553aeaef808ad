"""SQNR from sums: one piece or many, and what cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.numerics.sqnr import CAP_DB, ErrorSums, sqnr_db

FLOATS = hnp.arrays(np.float32, 12, elements=st.floats(-100, 100, width=32))


@given(FLOATS, FLOATS, st.integers(0, 12))
def test_pieces_give_the_same_as_the_whole(f: np.ndarray, g: np.ndarray, cut: int) -> None:
    sums = ErrorSums()
    sums.add(f[:cut], g[:cut])
    sums.add(f[cut:], g[cut:])
    assert sums.sqnr_db == pytest.approx(sqnr_db(f, g), abs=1e-9)


@given(FLOATS, FLOATS)
def test_is_the_formula(f: np.ndarray, g: np.ndarray) -> None:
    signal = float((f.astype(np.float64) ** 2).sum())
    noise = float(((f.astype(np.float64) - g) ** 2).sum())
    found = sqnr_db(f, g)
    if noise == 0:
        assert found == CAP_DB
    elif signal == 0:
        assert found == -CAP_DB
    else:
        expected = np.clip(10 * np.log10(signal / noise), -CAP_DB, CAP_DB)
        assert found == pytest.approx(expected, abs=1e-9)


def test_nothing_counted_is_undefined() -> None:
    assert ErrorSums().sqnr_db is None
    assert sqnr_db(np.zeros((0, 3)), np.zeros((0, 3))) is None


def test_integers_and_booleans_do_not_wrap_around() -> None:
    expected = 10 * np.log10(200**2 / 150**2)
    assert sqnr_db(np.array([200], np.uint8), np.array([50], np.uint8)) == pytest.approx(expected)
    assert sqnr_db(np.array([True, True]), np.array([True, False])) == pytest.approx(
        3.0103, abs=1e-4
    )


def test_float16_does_not_overflow() -> None:
    f = np.full(1000, 60000, dtype=np.float16)
    assert sqnr_db(f, np.full(1000, 30000, dtype=np.float16)) == pytest.approx(6.0206, abs=1e-3)


@pytest.mark.parametrize(
    ("expected", "actual", "db"),
    [
        ([1.0, np.inf], [1.0, np.inf], CAP_DB),
        ([1.0, np.nan], [1.0, np.nan], CAP_DB),
        ([1.0, np.inf], [1.0, -np.inf], -CAP_DB),
        ([1.0, 2.0], [1.0, np.nan], -CAP_DB),
        ([1.0, np.inf], [1.0, 3.0], -CAP_DB),
    ],
)
def test_what_is_not_finite(expected: list[float], actual: list[float], db: float) -> None:
    assert sqnr_db(np.array(expected), np.array(actual)) == db


def test_a_failure_stays() -> None:
    sums = ErrorSums()
    sums.fail()
    sums.add(np.ones(3), np.ones(3))
    assert sums.sqnr_db == -CAP_DB


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ"):
        ErrorSums().add(np.zeros(2), np.zeros((2, 1)))
