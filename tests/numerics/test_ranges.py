"""Ranges: they hold 0, stay inside what was seen, and are as good as brute force finds them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.numerics import grids, ranges
from graphopt.numerics.ranges import Histogram, Range

VALUES = hnp.arrays(np.float32, st.integers(1, 80), elements=st.floats(-64, 64, width=32))
FINDERS: dict[str, Callable[[Histogram], Range]] = {
    "min_max": ranges.min_max,
    "percentile": lambda histogram: ranges.percentile(histogram, 99),
    "entropy": ranges.entropy,
    "mse": lambda histogram: ranges.mse(histogram, 0, 255),
}


def of(values: np.ndarray, bins: int = 2048) -> Histogram:
    histogram = Histogram(bins)
    histogram.add(values)
    return histogram


def error(values: np.ndarray, found: Range, qmin: int, qmax: int) -> float:
    """Mean squared error of the values on the grid of a range."""
    scale, zero_point = grids.affine(*found, qmin, qmax)
    codes = grids.quantize(values, scale, zero_point, qmin, qmax)
    back = grids.dequantize(codes, scale, zero_point).astype(np.float64)
    return float(np.square(back - values).mean())


def shapes_of_activations() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(8_000)
    return {
        "normal": normal,
        "post-relu": np.maximum(normal, 0),
        "long tail": rng.standard_t(2, 8_000),
        "relu6": np.clip(normal * 4, 0, 6),
        "shifted": normal + 2,
        "negative": -np.abs(normal),
        "outlier": np.append(normal, 40.0),
    }


@pytest.mark.parametrize("name", FINDERS)
@settings(max_examples=50)
@given(values=VALUES)
def test_every_range_holds_zero_and_stays_inside(name: str, values: np.ndarray) -> None:
    low, high = FINDERS[name](of(values))
    assert min(float(values.min()), 0) <= low <= 0 <= high <= max(float(values.max()), 0)
    assert grids.affine(low, high, 0, 255)[0] > 0


@pytest.mark.parametrize("name", FINDERS)
def test_nothing_and_constants(name: str) -> None:
    find = FINDERS[name]
    assert find(of(np.zeros(5))) == (0, 0)
    np.testing.assert_allclose(find(of(np.full(5, 3.0))), (0, 3), rtol=0.01)
    np.testing.assert_allclose(find(of(np.full(5, -3.0))), (-3, 0), rtol=0.01)
    if name != "min_max":
        assert find(Histogram()) == (0, 0)


def test_an_empty_histogram_has_no_extent() -> None:
    assert ranges.min_max(Histogram()) == (0, 0)


@pytest.mark.parametrize("name", shapes_of_activations())
@pytest.mark.parametrize(("qmin", "qmax"), [(0, 255), (-8, 7)])
def test_mse_is_as_good_as_brute_force(name: str, qmin: int, qmax: int) -> None:
    values = shapes_of_activations()[name].astype(np.float32)
    found = ranges.mse(of(values), qmin, qmax)
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    tried = np.linspace(0.04, 1, 25)
    best = min(
        error(values, (low * a, high * b), qmin, qmax)
        for a in (tried if low else [1])
        for b in (tried if high else [1])
    )
    # the bins are a little coarse for the values, the grid of candidates for the ends
    assert error(values, found, qmin, qmax) <= best * 1.05


@pytest.mark.parametrize("name", shapes_of_activations())
def test_mse_is_never_worse_than_the_whole_range(name: str) -> None:
    values = shapes_of_activations()[name].astype(np.float32)
    whole = error(values, ranges.min_max(of(values)), 0, 255)
    assert error(values, ranges.mse(of(values), 0, 255), 0, 255) <= whole * 1.01


def test_the_expected_error_is_the_error() -> None:
    values = shapes_of_activations()["long tail"].astype(np.float32)
    low, high = -5.0, 7.0
    expected = ranges._ExpectedError(of(values, 4096), 0, 63)(low, high) / len(values)
    assert expected == pytest.approx(error(values, (low, high), 0, 63), rel=0.01)


def test_percentile_is_that_of_numpy() -> None:
    values = shapes_of_activations()["normal"]
    low, high = ranges.percentile(of(values), 99)
    assert low == pytest.approx(np.percentile(values, 0.5), abs=0.02)
    assert high == pytest.approx(np.percentile(values, 99.5), abs=0.02)
    one_sided = ranges.percentile(of(np.abs(values)), 99)
    np.testing.assert_allclose(one_sided, (0, np.percentile(np.abs(values), 99)), atol=0.02)
    assert ranges.percentile(of(values), 100) == (values.min(), values.max())


@pytest.mark.parametrize("p", [0, -1, 100.1, float("nan")])
def test_percentile_refuses(p: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        ranges.percentile(of(np.ones(2)), p)


def test_entropy_clips_an_outlier_and_keeps_what_is_dense() -> None:
    rng = np.random.default_rng(0)
    uniform = rng.uniform(-1, 3, 200_000)
    low, high = ranges.entropy(of(np.append(uniform, 100.0)))
    assert low == pytest.approx(-1, abs=0.1)
    assert 3 <= high < 60
    np.testing.assert_allclose(ranges.entropy(of(uniform)), (-1, 3), atol=0.05)


def test_entropy_of_values_far_from_zero_keeps_them() -> None:
    values = np.random.default_rng(0).uniform(2, 3, 50_000)
    np.testing.assert_allclose(ranges.entropy(of(values)), (0, 3), atol=0.05)
    np.testing.assert_allclose(ranges.entropy(of(-values)), (-3, 0), atol=0.05)


@given(
    hnp.arrays(np.float32, (3, 4, 2), elements=st.floats(-100, 100, width=32)),
    st.sampled_from([0, 1, 2, -1, None]),
    st.sampled_from([7, 127]),
)
def test_weight_scales(values: np.ndarray, axis: int | None, qmax: int) -> None:
    largest = ranges.weight_scales(values, axis, qmax)
    least = ranges.weight_scales(values, axis, qmax, "mse")
    moved = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, 0)
    assert largest.shape == (() if axis is None else (values.shape[axis],))
    assert largest.dtype == least.dtype == np.float32
    for row, a, b in zip(moved, np.ravel(largest), np.ravel(least), strict=True):
        if not row.any():
            continue
        assert a == max(np.float32(np.abs(row).max() / np.float64(qmax)), grids.SMALLEST_SCALE)
        assert 0.39 * a <= b <= a
        errors = [
            np.square(row - grids.dequantize(grids.quantize(row, s, 0, -qmax, qmax), s, 0)).sum()
            for s in (a, b)
        ]
        assert errors[1] <= errors[0] * (1 + 1e-6) + 1e-30


def test_a_channel_of_zeros_takes_the_smallest_scale_of_the_others() -> None:
    scales = ranges.weight_scales(np.array([[0.0], [1.27], [12.7]]), 0, 127)
    np.testing.assert_allclose(scales, [0.01, 0.01, 0.1], rtol=1e-6)
    assert ranges.weight_scales(np.zeros((2, 3)), 0, 127).tolist() == [1, 1]
    assert ranges.weight_scales(np.zeros((2, 0)), 0, 127).tolist() == [1, 1]


def test_weight_scales_refuse_nan() -> None:
    with pytest.raises(ValueError, match="not finite"):
        ranges.weight_scales(np.array([[np.nan]]), 0, 127)
