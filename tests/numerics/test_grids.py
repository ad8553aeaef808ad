"""Grids: zero is exact, the range is covered, codes are those of the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.numerics import grids

ENDS = st.floats(-(2.0**127), 2.0**127, width=32)
CODES = st.sampled_from([(0, 255), (-128, 127), (0, 15), (-8, 7), (0, 65535)])


@given(ENDS, ENDS, CODES)
def test_affine_covers_the_range_and_holds_zero(a: float, b: float, codes: tuple[int, int]) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero_point = grids.affine(low, high, *codes)
    assert scale.dtype == np.float32
    assert scale >= grids.SMALLEST_SCALE
    assert np.isfinite(scale)
    assert codes[0] <= zero_point <= codes[1]
    assert grids.dequantize(np.array([zero_point]), scale, zero_point)[0] == 0
    step = float(scale)
    # rounding the zero point moves the grid by half a step, float32 the scale by one in 2^24
    slack = step * (0.5 + 1e-3)
    assert (codes[0] - zero_point) * step <= min(low, 0) + slack
    assert (codes[1] - zero_point) * step >= max(high, 0) - slack


@pytest.mark.parametrize(
    ("low", "high", "zero_point"), [(0, 6, 0), (2, 6, 0), (-6, 0, 255), (-6, -2, 255), (0, 0, 0)]
)
def test_one_sided_ranges_use_all_codes(low: float, high: float, zero_point: int) -> None:
    scale, found = grids.affine(low, high, 0, 255)
    assert found == zero_point
    assert float(scale) == pytest.approx(max(abs(low), abs(high)) / 255 or 1.0)


def test_tiny_ranges_get_a_normal_scale() -> None:
    assert grids.affine(0, 1e-44, 0, 255)[0] == np.finfo(np.float32).tiny
    assert grids.symmetric(1e-44, 127) == np.finfo(np.float32).tiny
    assert grids.symmetric(0.0, 127) == 1


@pytest.mark.parametrize(
    ("low", "high", "qmin", "qmax"),
    [(1, 0, 0, 255), (np.nan, 1, 0, 255), (0, np.inf, 0, 255), (0, 1, 5, 5)],
)
def test_affine_refuses(low: float, high: float, qmin: int, qmax: int) -> None:
    with pytest.raises(ValueError, match="not a range"):
        grids.affine(low, high, qmin, qmax)


@pytest.mark.parametrize(("abs_max", "qmax"), [(-1, 127), (np.nan, 127), (1, 0)])
def test_symmetric_refuses(abs_max: float, qmax: int) -> None:
    with pytest.raises(ValueError, match="not a"):
        grids.symmetric(abs_max, qmax)


@given(
    hnp.arrays(np.float32, (3, 4), elements=st.floats(-1000, 1000, width=32)),
    hnp.arrays(np.float32, 4, elements=st.floats(2**-7, 128, width=32)),
    hnp.arrays(np.int64, 4, elements=st.integers(0, 255)),
)
def test_quantize_is_the_definition(
    values: np.ndarray, scales: np.ndarray, zero_points: np.ndarray
) -> None:
    codes = grids.quantize(values, scales, zero_points, 0, 255, axis=-1)
    assert codes.dtype == np.uint8
    for index in np.ndindex(values.shape):
        scale, zero_point = scales[index[1]], int(zero_points[index[1]])
        code = round(float(np.float32(values[index] / scale))) + zero_point
        assert codes[index] == min(max(code, 0), 255)


@given(hnp.arrays(np.float32, 20, elements=st.floats(-10, 10, width=32)))
def test_there_and_back_errs_by_half_a_step_at_most(values: np.ndarray) -> None:
    scale, zero_point = grids.affine(float(values.min()), float(values.max()), -128, 127)
    codes = grids.quantize(values, scale, zero_point, -128, 127)
    back = grids.dequantize(codes, scale, zero_point)
    # the ends may miss by another half step, since the zero point is rounded
    assert np.abs(back - values).max() <= float(scale) * 1.01


def test_wide_codes_are_computed_in_double() -> None:
    codes = grids.quantize(np.array([123456789.0, 3e9, -3e9]), 1.0, 0, -(2**31), 2**31 - 1)
    assert codes.tolist() == [123456789, 2**31 - 1, -(2**31)]
    assert codes.dtype == np.int32


def test_halves_go_to_even() -> None:
    codes = grids.quantize(np.array([0.5, 1.5, 2.5, -0.5]), 1.0, 0, -128, 127)
    assert codes.tolist() == [0, 2, 2, 0]


def test_quantize_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not finite"):
        grids.quantize(np.array([np.nan]), 1.0, 0, 0, 255)


def test_storage() -> None:
    found = [grids.storage_dtype(*c) for c in [(-8, 7), (0, 255), (0, 256), (0, 65535)]]
    assert found == [np.int8, np.uint8, np.int16, np.uint16]
    with pytest.raises(ValueError, match="32 bits"):
        grids.storage_dtype(0, 2**33)
