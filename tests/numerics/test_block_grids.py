from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.numerics.block_grids import BlockGrid, block_grid, half_holds, repeat_blocks
from graphopt.numerics.grids import CODE_TYPES, CodeName

KINDS: list[CodeName] = ["int8", "uint8", "int4", "uint4", "int2", "uint2"]


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.1, 1.0, shape).astype(np.float32)


def blocks(shape: tuple[int, ...], block: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """The elements of each block, in order of the scales."""
    starts = [range(0, size, many) for size, many in zip(shape, block, strict=True)]
    return [
        tuple(slice(at, at + many) for at, many in zip(corner, block, strict=True))
        for corner in itertools.product(*starts)
    ]


def error(values: NDArray[Any], grid: BlockGrid) -> float:
    return float(np.square(values - grid.values(), dtype=np.float64).sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [(4, 1), (5, 1), (16, 1), (1, 3), (3, 2)])
def test_every_code_is_the_nearest_of_its_block(kind: CodeName, block: tuple[int, int]) -> None:
    values, codes = weights(16, 6), CODE_TYPES[kind]
    grid = block_grid(values, block, codes, "mse")
    low = -codes.qmax if kind == "int8" else codes.qmin
    points = grid.zero_point.reshape(-1)
    for at, part in enumerate(blocks(values.shape, block)):
        scale, zero = grid.scale.reshape(-1)[at], points[at]
        every = (np.arange(low, codes.qmax + 1) - zero) * scale
        distance = np.abs(values[part][..., None] - every).min(-1)
        np.testing.assert_allclose(np.abs(values[part] - grid.values()[part]), distance, atol=1e-5)
    assert grid.codes.min() >= low and grid.codes.max() <= codes.qmax
    assert (points == 0).all() or codes.qmin == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_range_of_least_error_is_no_worse_than_the_whole_one(kind: CodeName) -> None:
    values, codes = weights(64, 8), CODE_TYPES[kind]
    widest = error(values, block_grid(values, (16, 1), codes, "max"))
    best = error(values, block_grid(values, (16, 1), codes, "mse"))
    assert best <= widest * (1 + 1e-6)
    if codes.bits < 8:
        assert best < 0.97 * widest


@pytest.mark.parametrize("kind", ["int4", "uint4", "int2", "uint2"])
def test_the_scale_is_near_the_best_that_brute_force_finds(kind: CodeName) -> None:
    values, codes = weights(32, 4, seed=2), CODE_TYPES[kind]
    grid = block_grid(values, (32, 1), codes, "mse")
    for column in range(4):
        row = values[:, column].astype(np.float64)
        span = (
            np.abs(row).max() / codes.qmax if codes.qmin else (row.max() - row.min()) / codes.qmax
        )
        best = np.inf
        for scale in np.linspace(0.1, 1.2, 111) * span:
            for zero in range(codes.qmax + 1) if codes.qmin == 0 else [0]:
                made = np.clip(np.rint(row / scale) + zero, codes.qmin, codes.qmax)
                best = min(best, float(np.square(row - (made - zero) * scale).sum()))
        mine = np.square(row - grid.values()[:, column]).sum()
        assert mine <= best * 1.35  # zero points are tried with the range alone


def test_max_covers_every_value() -> None:
    values = weights(32, 4)
    grid = block_grid(values, (8, 1), CODE_TYPES["int4"], "max")
    peaks = np.abs(values).reshape(4, 8, 4).max(1)
    np.testing.assert_allclose(grid.scale, peaks / 7, rtol=1e-6)
    assert np.abs(grid.codes).max() == 7
    assert (
        np.abs(values - grid.values()) <= repeat_blocks(grid.scale, (8, 1), (32, 4)) * 0.5001
    ).all()


def test_unsigned_codes_hold_zero_and_both_ends() -> None:
    values = np.array([[1.0], [3.0], [-2.0], [0.0]], np.float32)
    grid = block_grid(values, (4, 1), CODE_TYPES["uint4"], "max")
    assert float(grid.scale[0, 0]) == pytest.approx(1 / 3)
    assert int(grid.zero_point[0, 0]) == 6
    np.testing.assert_allclose(grid.values(), values, atol=1e-6)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5))
def test_short_blocks_at_the_end_are_like_others(rows: int, block: int, seed: int) -> None:
    values, kind = weights(rows, 3, seed=seed), CODE_TYPES["int4"]
    grid = block_grid(values, (block, 1), kind, "max")
    for at, start in enumerate(range(0, rows, block)):
        part = values[start : start + block]
        alone = block_grid(part, (len(part), 1), kind, "max")
        np.testing.assert_array_equal(alone.codes, grid.codes[start : start + block])
        np.testing.assert_array_equal(alone.scale[0], grid.scale[at])


def test_scales_in_half_precision_are_what_codes_are_made_for() -> None:
    values = weights(64, 4)
    grid = block_grid(values, (16, 1), CODE_TYPES["int4"], half=True)
    assert (grid.scale.astype(np.float16) == grid.scale).all()
    steps = values / repeat_blocks(grid.scale, (16, 1), values.shape)
    np.testing.assert_array_equal(grid.codes, np.clip(np.rint(steps), -8, 7))
    tiny = block_grid(values * 1e-5, (16, 1), CODE_TYPES["int4"], half=True)
    assert not half_holds(tiny.scale)
    assert error(values * 1e-5, tiny) < 1e-9 * error(values, grid)  # kept as float32


def test_blocks_of_zeros_and_extremes() -> None:
    values = weights(8, 2)
    values[:4] = 0
    grid = block_grid(values, (4, 1), CODE_TYPES["int4"])
    assert not grid.codes[:4].any() and (grid.scale[0] == grid.scale.min()).all()
    assert not block_grid(np.zeros((8, 2)), (4, 1), CODE_TYPES["uint2"]).values().any()
    for size in (1e-44, 3e38):
        grid = block_grid(np.full((4, 1), size, np.float32), (4, 1), CODE_TYPES["uint4"])
        assert np.isfinite(grid.values()).all()
    with pytest.raises(ValueError, match="not finite"):
        block_grid(np.array([[np.nan]]), (1, 1), CODE_TYPES["int4"])
