"""What outputs of a transposed convolution are sums of, against spreading every input."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.numerics.transposed_window import TransposedWindow


def spread(image: NDArray[Any], weight: NDArray[Any], strides: Any, dilations: Any) -> NDArray[Any]:
    """The whole output ``(out, *sizes)``, nothing cut off, of one image ``(in, *sizes)``."""
    sizes, kernel = image.shape[1:], weight.shape[2:]
    wide = [
        (n - 1) * s + (k - 1) * d + 1
        for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    out = np.zeros((weight.shape[1], *wide))
    for place in itertools.product(*map(range, sizes)):
        for tap in itertools.product(*map(range, kernel)):
            at = tuple(
                p * s + t * d for p, t, s, d in zip(place, tap, strides, dilations, strict=True)
            )
            part = np.moveaxis(weight, (0, 1), (-2, -1))[tap]
            np.moveaxis(out, 0, -1)[at] += np.moveaxis(image, 0, -1)[place] @ part
    return out


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(1, 2), st.integers(0, 2**32 - 1))
def test_rows_times_the_weight_are_the_outputs(data: Any, rank: int, seed: int) -> None:
    def drawn(low: int, high: int, count: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(count))

    sizes, kernel = drawn(1, 4, rank), drawn(1, 3, rank)
    strides, dilations = drawn(1, 3, rank), drawn(1, 2, rank)
    pads, more = drawn(0, 2, 2 * rank), drawn(0, 1, rank)
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(2, 3, *sizes)).astype(np.float32)
    weight = rng.normal(size=(3, 2, *kernel))
    window = TransposedWindow(kernel, strides, pads, dilations, more)
    positions = window.positions(sizes)
    count = 2 * int(np.prod(positions))
    rows = window.at(images, np.arange(count))
    expected = []
    for image in images:
        whole = spread(image, weight, strides, dilations)
        whole = np.pad(whole, [(0, 0), *((0, each) for each in more)])
        cut = tuple(
            slice(front, max(size - back, front))
            for front, back, size in zip(pads[:rank], pads[rank:], whole.shape[1:], strict=True)
        )
        expected.append(np.moveaxis(whole[(slice(None), *cut)], 0, -1).reshape(-1, 2))
    made = np.einsum("nck,cok->no", rows, weight.reshape(3, 2, -1))
    np.testing.assert_allclose(made, np.concatenate(expected), atol=1e-4)
    parts = [part for image in images for part in window.columns(image, 3)]
    assert np.array_equal(np.concatenate([np.zeros((0, *rows.shape[1:])), *parts]), rows)
    chosen = np.arange(0, count, 2)
    np.testing.assert_array_equal(window.at(images, chosen), rows[chosen])


@pytest.mark.parametrize(("pads", "left"), [((2, 0), 0), ((3, 0), 0), ((1, 0), 1), ((0, 2), 0)])
def test_what_is_cut_off_in_front_may_be_more_than_there_is(
    pads: tuple[int, int], left: int
) -> None:
    window = TransposedWindow((1,), pads=pads, output_padding=(1,))
    assert window.positions((1,)) == (left,)
    parts = list(window.columns(np.ones((3, 1))))
    assert sum(map(len, parts)) == left
    assert all((part == 0).all() for part in parts), "what lies behind is padding"


@pytest.mark.parametrize(
    ("options", "front", "size"),
    [
        ({"auto_pad": "SAME_UPPER"}, 0, 10),
        ({"auto_pad": "SAME_LOWER"}, 1, 10),
        ({"auto_pad": "VALID", "pads": (1, 1)}, 0, 11),
        ({"output_shape": (9,), "pads": (5, 5)}, 1, 9),
        ({"output_shape": (8,), "auto_pad": "SAME_UPPER"}, 1, 8),
        ({"output_shape": (8,)}, 2, 8),
        ({"output_shape": (13,)}, 0, 13),
    ],
)
def test_padding_that_follows_from_the_sizes(
    options: dict[str, Any], front: int, size: int
) -> None:
    window = TransposedWindow((3,), strides=(2,), **options)
    assert window.positions((5,)) == (size,)
    image = np.arange(1, 6, dtype=np.float32).reshape(1, 1, 5)
    weight = np.array([[[1.0, 10.0, 100.0]]])
    whole = np.pad(spread(image[0], weight, (2,), (1,)), [(0, 0), (0, 9)])[0]
    made = window.at(image, np.arange(size))[:, 0] @ weight[0, 0]
    np.testing.assert_allclose(made, whole[front : front + size])
