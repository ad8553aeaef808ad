"""Values of a codebook, and centres solved for, against all of them and against least squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.numerics.centre_grids import CentreGrid, solved_centres
from graphopt.numerics.rounding import rounded
from graphopt.numerics.weight_grids import error_of

Floats = NDArray[np.float64]


def problem(seed: int, groups: int = 1) -> tuple[Floats, Floats, CentreGrid]:
    """A weight ``(groups, 5, 4)``, a covariance, scales and four centres."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((groups, 5, 4))
    read = rng.standard_normal((groups, 40, 5)) @ rng.standard_normal((groups, 5, 5))
    covariance = read.transpose(0, 2, 1) @ read / 40
    scale = rng.uniform(0.5, 2, (groups, 1, 4))
    return weight, covariance, CentreGrid(scale, np.sort(rng.standard_normal(4)))


@given(st.integers(0, 1000))
def test_the_nearest_value_is_the_nearest(seed: int) -> None:
    weight, _, grid = problem(seed, 2)
    every = grid.scale[..., None] * grid.centres
    least = np.abs(weight[..., None] - every).min(axis=-1)
    np.testing.assert_allclose(np.abs(grid.nearest(weight) - weight), least)
    for index in range(5):
        np.testing.assert_array_equal(
            grid.column(index).nearest(weight[:, index]), grid.nearest(weight)[:, index]
        )
    part = slice(1, 3)
    np.testing.assert_array_equal(
        grid.outputs(part).nearest(weight[..., part]), grid.nearest(weight)[..., part]
    )
    both = grid.scaled((1.0, 0.5)).nearest(np.tile(weight, 2))
    np.testing.assert_array_equal(both[..., :4], grid.nearest(weight))


def test_a_scale_of_zero_gives_zero() -> None:
    grid = CentreGrid(np.array([[[0.0, 1.0]]]), np.array([-1.0, 2.0]))
    assert grid.nearest(np.array([[[5.0, 5.0]]])).tolist() == [[[0.0, 2.0]]]


@given(st.integers(0, 1000), st.sampled_from([1, 2]))
def test_solved_centres_cost_least(seed: int, groups: int) -> None:
    weight, covariance, grid = problem(seed, groups)
    codes = grid.codes(weight)

    def cost(centres: Floats) -> float:
        return float(error_of(weight - centres[codes] * grid.scale, covariance).sum())

    solved = solved_centres(weight, covariance, grid, codes)
    least = cost(solved)
    assert least <= cost(grid.centres) + 1e-9
    for at in range(4):
        for step in (-1e-3, 1e-3):
            moved = solved.copy()
            moved[at] += step
            assert cost(moved) >= least - 1e-8


def test_a_centre_at_zero_and_one_that_no_code_picks_stay() -> None:
    weight, covariance, grid = problem(3)
    grid = CentreGrid(grid.scale, np.array([-1.0, 0.0, 1.0, 100.0]))
    solved = solved_centres(weight, covariance, grid, grid.codes(weight))
    assert solved[1] == 0 and solved[3] == 100
    assert not np.isclose(solved[[0, 2]], [-1, 1]).all()


@pytest.mark.parametrize("seed", range(5))
def test_rounding_by_data_takes_codebooks(seed: int) -> None:
    weight, covariance, grid = problem(seed)
    found, _ = rounded(weight, covariance, grid)
    near = grid.nearest(weight)
    assert (error_of(weight - found, covariance) <= error_of(weight - near, covariance)).all()
    np.testing.assert_allclose(found, grid.nearest(found))
