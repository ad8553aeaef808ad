"""Columns against a loop over positions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.numerics.im2col import Window


def by_hand(window: Window, image: NDArray[Any]) -> NDArray[np.float64]:
    """Position by position, value by value."""
    padding = window.padding(image.shape[1:])
    rank = len(window.kernel)
    strides, dilations = window.strides or (1,) * rank, window.dilations or (1,) * rank
    spans = [(k - 1) * d + 1 for k, d in zip(window.kernel, dilations, strict=True)]
    counts = [
        max((size + sum(pads) - span) // stride + 1, 0)
        for size, pads, span, stride in zip(image.shape[1:], padding, spans, strides, strict=True)
    ]
    rows = []
    for position in itertools.product(*map(range, counts)):
        row = []
        for channel in image:
            for offset in itertools.product(*map(range, window.kernel)):
                place = tuple(
                    p * s + o * d - pads[0]
                    for p, s, o, d, pads in zip(
                        position, strides, offset, dilations, padding, strict=True
                    )
                )
                inside = all(0 <= i < n for i, n in zip(place, channel.shape, strict=True))
                row.append(channel[place] if inside else 0)
        rows.append(row)
    width = len(image) * int(np.prod(window.kernel))
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Window, NDArray[np.float32]]:
    rank = draw(st.integers(1, 3))

    def each(low: int, high: int, count: int = rank) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(count))

    window = Window(
        each(1, 3),
        each(1, 3),
        each(0, 2, 2 * rank),
        each(1, 2),
        draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])),
    )
    shape = (draw(st.integers(1, 3)), *each(0, 5))
    values = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32)
    return window, values.reshape(shape)


@given(cases(), st.none() | st.integers(1, 7))
def test_columns_are_those_of_a_loop(
    case: tuple[Window, NDArray[np.float32]], most: int | None
) -> None:
    window, image = case
    slices = list(window.columns(image, most))
    assert all(len(part) <= (most or np.inf) for part in slices)
    expected = by_hand(window, image)
    flat = [part.reshape(len(part), -1) for part in slices]
    np.testing.assert_array_equal(np.concatenate([expected[:0], *flat]), expected)


@pytest.mark.parametrize(
    ("auto_pad", "pads"), [("SAME_UPPER", (0, 1)), ("SAME_LOWER", (1, 0)), ("VALID", (0, 0))]
)
def test_padding_that_follows_from_the_size(auto_pad: Any, pads: tuple[int, int]) -> None:
    window = Window((3,), (2,), (5, 5), auto_pad=auto_pad)
    assert window.padding([6]) == [pads]
    assert Window((3,), (2,), (5, 4)).padding([6]) == [(5, 4)]
