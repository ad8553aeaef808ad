"""The pair bound against a bit-exact model of the kernel that saturates."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.numerics import grids, saturation

CODES = hnp.arrays(
    np.int8, st.tuples(st.integers(1, 7), st.integers(1, 3)), elements=st.integers(-127, 127)
)
WEIGHTS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 7), st.integers(1, 3)), elements=st.floats(-2, 2, width=32)
)


def dot(activations: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """VPMADDUBSW and what follows: pairs are added in saturating int16, the rest in int32."""
    products = activations[:, None].astype(np.int32) * codes.astype(np.int32)
    if len(products) % 2:
        products = np.concatenate([products, np.zeros_like(products[:1])])
    pairs = products[0::2] + products[1::2]
    return np.asarray(np.clip(pairs, -32768, 32767).sum(axis=0))


def exact(activations: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return np.asarray(activations.astype(np.int64) @ codes.astype(np.int64))


def worst_inputs(count: int, max_code: np.ndarray) -> list[np.ndarray]:
    """Each pair at its corners, all pairs alike: no input does worse than these."""
    corners = itertools.product((0, 1), repeat=2)
    return [
        np.array([(a, b)[i % 2] * max_code[i] for i in range(count)], dtype=np.uint8)
        for a, b in corners
    ]


@given(CODES, st.integers(1, 255))
def test_unsafe_is_where_some_input_differs(codes: np.ndarray, top: int) -> None:
    max_code = np.full(len(codes), top)
    differs = np.zeros(codes.shape[1], dtype=bool)
    for activations in worst_inputs(len(codes), max_code):
        products = activations[:, None].astype(np.int32) * codes
        padded = np.concatenate([products, np.zeros((len(products) % 2, codes.shape[1]), np.int32)])
        sums = padded[0::2] + padded[1::2]
        differs |= ((sums > 32767) | (sums < -32768)).any(axis=0)
    assert saturation.unsafe_channels(codes, top).tolist() == differs.tolist()


@given(CODES, st.data())
def test_safe_channels_are_exact_for_any_input(codes: np.ndarray, data: st.DataObject) -> None:
    activations = data.draw(hnp.arrays(np.uint8, len(codes)))
    safe = ~saturation.unsafe_channels(codes)
    assert (dot(activations, codes) == exact(activations, codes))[safe].all()


@given(st.integers(-127, 127), st.integers(-127, 127))
def test_the_bound_for_full_codes_is_128(a: int, b: int) -> None:
    positive = max(0, a) + max(0, b)
    negative = max(0, -a) + max(0, -b)
    unsafe = saturation.unsafe_channels(np.array([[a], [b]]))[0]
    assert unsafe == (positive > 128 or negative > 128)


@settings(max_examples=200)
@given(WEIGHTS, st.floats(0.001, 0.1), st.sampled_from([255, 200, None]), st.data())
def test_the_factor_is_enough_and_the_smallest(
    weights: np.ndarray, size: float, top: int | None, data: st.DataObject
) -> None:
    max_code: int | np.ndarray = (
        top
        if top is not None
        else data.draw(hnp.arrays(np.int64, len(weights), elements=st.integers(0, 255)))
    )
    scales = np.full(weights.shape[1], size, dtype=np.float32)

    def unsafe(s: np.ndarray) -> np.ndarray:
        codes = grids.quantize(weights, s, 0, -127, 127, axis=1)
        return saturation.unsafe_channels(codes, max_code)

    factors = saturation.raise_factors(weights, scales, max_code)
    raised = scales * factors
    assert factors.dtype == raised.dtype == np.float32
    assert not unsafe(raised).any()
    assert not unsafe(raised * np.float32(1.37)).any()
    moved = factors > 1
    assert (unsafe(scales) == moved).all()
    # the product may lie a few numbers above the threshold, never as much as 1e-6
    assert unsafe(raised * np.float32(1 - 1e-6))[moved].all()


def test_codes_known_to_be_small_spare_the_scale() -> None:
    weights, scales = np.array([[1.27], [1.27]]), np.array([0.01], dtype=np.float32)
    assert saturation.raise_factors(weights, scales)[0] > 1.9
    assert saturation.raise_factors(weights, scales, max_code=129)[0] == 1
    assert saturation.raise_factors(weights, scales, max_code=np.array([255, 3]))[0] == 1


def test_one_scale_for_all_and_leading_axes() -> None:
    weights = np.stack([np.eye(4), np.ones((4, 4))])
    together = saturation.raise_factors(weights, np.float32(1 / 127))
    each = [saturation.raise_factors(part, np.float32(1 / 127)) for part in weights]
    np.testing.assert_array_equal(together, np.maximum(*each))


def test_nothing_to_do_without_weights() -> None:
    assert saturation.raise_factors(np.zeros((0, 3)), np.float32(1)).tolist() == [1, 1, 1]
    assert saturation.unsafe_channels(np.zeros((0, 3), dtype=np.int8)).tolist() == [False] * 3


def test_an_odd_number_of_channels_makes_pairs_straddle_kernel_positions() -> None:
    weight = np.zeros((1, 3, 1, 2), dtype=np.int8)
    weight[0, 2, 0, 0] = weight[0, 0, 0, 1] = 100  # last channel here, first channel there
    matrix = saturation.conv_matrix(weight)
    assert matrix.ravel().tolist() == [0, 0, 100, 100, 0, 0]
    assert saturation.unsafe_channels(matrix).tolist() == [True]


@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (4, 2, 5), (6, 1, 2, 2, 2)])
def test_conv_matrix_is_channel_fastest(shape: tuple[int, ...]) -> None:
    weight = np.arange(np.prod(shape)).reshape(shape)
    matrix = saturation.conv_matrix(weight)
    rows = [
        weight[(slice(None), channel, *position)]
        for position in np.ndindex(*shape[2:])
        for channel in range(shape[1])
    ]
    np.testing.assert_array_equal(matrix, np.stack(rows))
