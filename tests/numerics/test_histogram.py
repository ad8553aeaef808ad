"""The histogram: exact ends, no count lost, and no trace of the order in which values came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.numerics.histogram import Histogram

VALUES = hnp.arrays(
    np.float32, st.integers(1, 60), elements=st.floats(-(2.0**127), 2.0**127, width=32)
) | hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-4, 4, width=32))
BINS = st.sampled_from([2, 3, 16, 64])


def of(values: np.ndarray, bins: int) -> Histogram:
    histogram = Histogram(bins)
    histogram.add(values)
    return histogram


def same(a: Histogram, b: Histogram) -> bool:
    return (
        (a.low, a.high, a.zeros, a.width) == (b.low, b.high, b.zeros, b.width)
        and np.array_equal(a.edges, b.edges)
        and np.array_equal(a.counts, b.counts)
    )


@given(VALUES, BINS)
def test_counts_are_those_of_the_bins(values: np.ndarray, bins: int) -> None:
    histogram = of(values, bins)
    assert len(histogram.counts) <= bins
    assert histogram.total == len(values)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert histogram.zeros == (values == 0).sum()
    index = np.floor(values.astype(np.float64) / histogram.width)
    expected = np.bincount((index - index.min()).astype(int), minlength=len(histogram.counts))
    assert histogram.counts.tolist() == expected.tolist()


@given(VALUES, VALUES, BINS)
def test_order_and_pieces_leave_no_trace(a: np.ndarray, b: np.ndarray, bins: int) -> None:
    whole = of(np.concatenate([a, b]), bins)
    there, back = of(a, bins), of(b, bins)
    there.add(b)
    back.add(a)
    assert same(whole, there)
    assert same(whole, back)


@given(VALUES, BINS)
def test_the_width_is_the_smallest_that_does(values: np.ndarray, bins: int) -> None:
    histogram = of(values, bins)
    finer = histogram.width / 2
    span = np.floor(histogram.high / finer) - np.floor(histogram.low / finer)
    largest = max(abs(histogram.low), abs(histogram.high))
    assert span + 1 > bins or finer <= largest * 2.0**-24 or finer < 2.0**-149


def test_widening_counts_nothing() -> None:
    histogram = of(np.array([1.0, 2.0]), 8)
    histogram.widen(-5.0, 9.0)
    assert (histogram.low, histogram.high, histogram.total) == (-5.0, 9.0, 2)
    assert histogram.edges[0] == -5
    assert histogram.edges[-1] == 9


@pytest.mark.parametrize("value", [0.0, 1.0, -7.5, 3e38, 1e-45])
def test_constants(value: float) -> None:
    histogram = of(np.full(9, value, dtype=np.float32), 2048)
    assert histogram.counts.tolist() == [9]
    assert histogram.low == histogram.high == np.float32(value)


def test_empty_arrays_and_empty_histograms_change_nothing() -> None:
    histogram = of(np.zeros((0, 3)), 8)
    assert histogram.total == 0
    assert len(histogram.edges) == 1
    histogram.add(np.arange(5.0))
    histogram.add(np.zeros(0))
    assert same(histogram, of(np.arange(5.0), 8))


def test_integers_are_counted() -> None:
    assert of(np.array([0, 3, 3, 255], dtype=np.uint8), 256).total == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(bad: float) -> None:
    histogram = of(np.array([1.0]), 8)
    with pytest.raises(ValueError, match="cannot be counted"):
        histogram.add(np.array([0.0, bad]))
    assert histogram.total == 1


def test_refuses_too_few_bins() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Histogram(1)
