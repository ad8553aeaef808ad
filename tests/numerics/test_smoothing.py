from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.numerics import grids, ranges
from graphopt.numerics.smoothing import Activation, row_gain_db, smooth


def sample(seed: int, loud: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Activations ``(rows, in)`` with one loud channel, and a weight ``(in, out)``."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, 24)).astype(np.float32)
    x[:, rng.integers(24)] *= loud
    return x, rng.normal(size=(24, 16)).astype(np.float32)


def describe(x: NDArray[np.float32]) -> Activation:
    return Activation(
        float(x.min()),
        float(x.max()),
        np.abs(x).max(axis=0).astype(np.float64),
        np.square(x, dtype=np.float64).mean(axis=0),
    )


def real_error(x: NDArray[np.float32], w: NDArray[np.float32]) -> float:
    """Mean over the rows of the squared error of the quantized product, summed over outputs."""
    scale, zero = grids.affine(float(x.min()), float(x.max()), 0, 255)
    left = grids.dequantize(grids.quantize(x, scale, zero, 0, 255), scale, zero)
    scales = ranges.weight_scales(w, 1, 127)
    right = grids.dequantize(grids.quantize(w, scales, 0, -127, 127, 1), scales, 0, 1)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    return float(np.square(left.astype(np.float64) @ right - exact).sum(axis=1).mean())


MODEL_FACTOR = 1.5  # rounding errors of 400 rows are near their expectation, not at it


@given(seed=st.integers(0, 10_000), loud=st.floats(1, 100))
def test_the_expected_error_is_that_of_quantized_products(seed: int, loud: float) -> None:
    x, w = sample(seed, loud)
    signal = float(describe(x).powers @ np.square(w).sum(axis=1))
    expected = signal / 10 ** (smooth(describe(x), w).before_db / 10)
    assert expected / MODEL_FACTOR < real_error(x, w) < expected * MODEL_FACTOR


@given(seed=st.integers(0, 10_000), loud=st.floats(8, 100))
def test_smoothing_lowers_the_real_error(seed: int, loud: float) -> None:
    x, w = sample(seed, loud)
    found = smooth(describe(x), w)
    after = real_error(x / found.factors, w * found.factors[:, None])
    gain_db = 10 * np.log10(real_error(x, w) / after)
    assert gain_db > 3
    assert abs(gain_db - found.gain_db) < 20 * np.log10(MODEL_FACTOR)


@given(seed=st.integers(0, 10_000), loud=st.floats(1, 100))
def test_factors_never_enlarge_and_bring_all_below_one_cap(seed: int, loud: float) -> None:
    x, w = sample(seed, loud)
    activation = describe(x)
    found = smooth(activation, w)
    assert found.factors.dtype == np.float32
    assert (found.factors >= 1).all()
    assert found.gain_db >= 0
    peaks = activation.peaks / found.factors
    divided = found.factors > 1
    assert np.allclose(peaks[divided], peaks.max(), rtol=1e-5)


def test_a_tensor_of_zeros_stays() -> None:
    silent = Activation(0.0, 0.0, np.zeros(4), np.zeros(4))
    found = smooth(silent, np.ones((4, 2), np.float32))
    assert found.factors.tolist() == [1, 1, 1, 1]
    assert found.gain_db == 0


def row_errors(
    x: NDArray[np.float32], w: NDArray[np.float32], *, apart: bool
) -> NDArray[np.float64]:
    """Squared error of each row of the product over the row's power, with int8 on both sides."""
    sizes = np.abs(x).max(axis=1, keepdims=True) if apart else np.ones((len(x), 1), np.float32)
    scaled = x / sizes
    scale, zero = grids.affine(float(scaled.min()), float(scaled.max()), 0, 255)
    left = grids.dequantize(grids.quantize(scaled, scale, zero, 0, 255), scale, zero) * sizes
    scales = ranges.weight_scales(w, 1, 127)
    right = grids.dequantize(grids.quantize(w, scales, 0, -127, 127, 1), scales, 0, 1)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    error = np.square(left.astype(np.float64) @ right - exact).sum(axis=1)
    return np.asarray(error / np.square(exact).sum(axis=1))


ROW_GAIN_TOLERANCE_DB = (
    2.0  # the formula takes rows and weights as independent, and no row is rounded away
)


@given(st.integers(0, 1000), st.floats(1, 20))
def test_the_gain_of_scaled_rows_is_the_measured_one(seed: int, loud: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 48)).astype(np.float32)
    x[::10] *= np.float32(loud)
    w = rng.normal(size=(48, 32)).astype(np.float32)
    whole = max(x.max(), 0) - min(x.min(), 0)
    widths = np.stack([np.full(len(x), whole), 2 * np.abs(x).max(axis=1)], axis=1) ** 2.0
    widths /= np.square(x).mean(axis=1, keepdims=True)
    gains = 10 * np.log10(row_errors(x, w, apart=False) / row_errors(x, w, apart=True))
    assert abs(row_gain_db(widths, w) - gains.mean()) < ROW_GAIN_TOLERANCE_DB


def test_no_row_and_no_weight_gain_nothing() -> None:
    assert row_gain_db(np.zeros((0, 2)), np.ones((2, 2), np.float32)) == 0
    assert row_gain_db(np.ones((3, 2)), np.zeros((2, 2), np.float32)) == 0
