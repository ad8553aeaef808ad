"""Two convolutions with a clipped line between them, solved together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from graphopt.numerics.conv_pairs import ConvPair, solve_pair
from graphopt.numerics.im2col import Window
from graphopt.numerics.least_squares import Behind
from graphopt.numerics.patches import Patches

Singles = NDArray[np.float32]
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(24, 3, 9, 8)).astype(np.float32)
PLAIN, PADDED = Window((3, 3)), Window((3, 3), pads=(1, 1, 1, 1))
STRIDED = Window((3, 3), strides=(2, 2), pads=(1, 0, 1, 1))
DILATED = Window((2, 3), dilations=(2, 1), pads=(1, 1, 1, 1))
WINDOWS = [(PLAIN, PLAIN), (PADDED, PADDED), (STRIDED, PADDED), (PADDED, STRIDED), (DILATED, PLAIN)]


def convolved(
    x: NDArray[np.generic], weight: NDArray[np.float64], bias: NDArray[np.float64], w: Window
) -> Singles:
    """The convolution by its definition; ``weight`` is ``(channels * taps, out)``."""
    top, left, bottom, right = w.pads or (0, 0, 0, 0)
    (down, along), (tall, wide) = w.strides or (1, 1), w.dilations or (1, 1)
    kernel = weight.T.reshape(weight.shape[1], x.shape[1], *w.kernel)
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = (w.kernel[0] - 1) * tall + 1, (w.kernel[1] - 1) * wide + 1
    seen = sliding_window_view(padded, reach, (2, 3))[:, :, ::down, ::along, ::tall, ::wide]
    found = np.einsum("nchwij,ocij->nohw", seen, kernel, optimize=True)
    return np.asarray(found + bias[:, None, None], np.float32)


def given_by(pair: ConvPair, images: Singles) -> Singles:
    between = convolved(images, pair.weights[0], pair.biases[0], pair.first)
    return convolved(
        between.clip(pair.low, pair.high), pair.weights[1], pair.biases[1], pair.second
    )


def some_pair(windows: tuple[Window, Window], hidden: int, high: float = np.inf) -> ConvPair:
    taps = [int(np.prod(each.kernel)) for each in windows]
    one, two = RNG.normal(size=(3 * taps[0], hidden)), RNG.normal(size=(hidden * taps[1], 4))
    biases = RNG.normal(size=hidden), RNG.normal(size=4)
    return ConvPair(*windows, 0.0, high, (one / 3, two / 3), biases)


@pytest.mark.parametrize("most", [24, 24 * 9, 10**6])
@pytest.mark.parametrize("windows", WINDOWS)
def test_patches_give_what_the_maps_give_there(windows: tuple[Window, Window], most: int) -> None:
    pair = some_pair(windows, 5)
    part = Patches(*windows, IMAGES.shape[2:], len(IMAGES), most)
    wanted = part.given(given_by(pair, IMAGES))
    _, before, _ = solve_pair(pair, part.read(IMAGES), part.inside, wanted, Behind())
    assert before < 1e-10
    assert len(wanted) <= max(most, len(IMAGES))


def test_patches_lie_everywhere() -> None:
    maps = np.arange(81, dtype=np.float32).reshape(1, 1, 9, 9).repeat(200, axis=0)
    part = Patches(PADDED, PADDED, (9, 9), 200, 200 * 4)
    seen = np.bincount(part.given(maps)[:, 0].astype(int), minlength=81).reshape(9, 9)
    assert seen.min() > 0
    assert seen[1:-1, 1:-1].max() <= 3 * seen[1:-1, 1:-1].min()


@pytest.mark.parametrize("high", [np.inf, 0.8])
@pytest.mark.parametrize("windows", WINDOWS)
def test_fewer_channels_come_nearer_than_the_second_alone_brings_them(
    windows: tuple[Window, Window], high: float
) -> None:
    whole = some_pair(windows, 8, high)
    taps = int(np.prod(windows[1].kernel))
    left = whole.weights[0][:, :5], whole.weights[1][: 5 * taps]
    narrow = replace(whole, weights=left, biases=(whole.biases[0][:5], whole.biases[1]))
    narrow = _second_solved(narrow, whole)
    part = Patches(*windows, IMAGES.shape[2:], len(IMAGES), 10**6)
    wanted = part.given(given_by(whole, IMAGES))
    found, before, after = solve_pair(narrow, part.read(IMAGES), part.inside, wanted, Behind())
    spread = float(wanted.var(axis=0).sum()) * len(wanted)
    for pair, told in ((narrow, before), (found, after)):
        wrong = part.given(given_by(pair, IMAGES)) - wanted
        assert float(np.square(wrong).sum()) / spread == pytest.approx(told, rel=1e-3)
    assert after < 0.96 * before


def _second_solved(pair: ConvPair, whole: ConvPair) -> ConvPair:
    """The second makes up for what went, as well as it can alone."""
    between = convolved(IMAGES, pair.weights[0], pair.biases[0], pair.first)
    between = between.clip(pair.low, pair.high)
    count = len(between) * int(np.prod(pair.second.positions(between.shape[2:])))
    rows = pair.second.at(between, np.arange(count)).reshape(count, -1).astype(np.float64)
    wanted = given_by(whole, IMAGES).transpose(0, 2, 3, 1).reshape(count, -1)
    with_one = np.concatenate([rows, np.ones((count, 1))], axis=1)
    solved = np.linalg.lstsq(with_one, wanted, rcond=None)[0]
    return replace(
        pair, weights=(pair.weights[0], solved[:-1]), biases=(pair.biases[0], solved[-1])
    )


def test_what_is_added_and_what_nobody_tells_apart_count() -> None:
    whole = some_pair((PADDED, PADDED), 6)
    beside = RNG.normal(size=(24 * 72, 4)).astype(np.float32)
    part = Patches(PADDED, PADDED, (9, 8), 24, 10**6)
    right = part.given(given_by(whole, IMAGES)) + beside
    hidden = np.where(right < 0, right - 5, right)  # a Relu behind gives the same
    behind = Behind(beside, low=0.0)
    _, before, _ = solve_pair(whole, part.read(IMAGES), part.inside, hidden, behind)
    assert before < 1e-10


def test_zeros_stay_zeros() -> None:
    whole = some_pair((PADDED, PADDED), 6)
    masked = [weight * (RNG.random(weight.shape) < 0.5) for weight in whole.weights]
    sparse = replace(whole, weights=(masked[0], masked[1]))
    part = Patches(PADDED, PADDED, (9, 8), 24, 10**6)
    wanted = part.given(given_by(whole, IMAGES))
    found, before, after = solve_pair(sparse, part.read(IMAGES), part.inside, wanted, Behind())
    assert after < 0.8 * before
    for now, then in zip(found.weights, masked, strict=True):
        np.testing.assert_array_equal(now == 0, then == 0)
