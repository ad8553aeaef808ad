"""Rounding by data, against brute force on tiny problems and against rounding to nearest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.numerics.rounding import coordinate_descent, rounded
from graphopt.numerics.weight_grids import CodeGrid, chosen_scales, error_of

Floats = NDArray[np.float64]


def problem(
    seed: int, groups: int, width: int, outs: int, *, rank: int | None = None
) -> tuple[Floats, Floats]:
    """A weight ``(groups, width, outs)`` and a covariance of inputs that go together."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((groups, rank or 4 * width, width))
    mixed = rows @ (rng.standard_normal((groups, width, width)) + 2 * np.eye(width))
    covariance = mixed.transpose(0, 2, 1) @ mixed / rows.shape[1]
    return rng.standard_normal((groups, width, outs)), covariance


def grid(weight: Floats, qmax: int = 3) -> CodeGrid:
    limits = np.full((1, 1, 1), -qmax), np.full((1, 1, 1), qmax)
    return CodeGrid(np.abs(weight).max(axis=1, keepdims=True) / qmax, *limits)


def on_grid(values: Floats, where: CodeGrid, factor: Floats | float = 1.0) -> bool:
    codes = values / (where.scale * factor)
    inside = (codes >= where.low - 1e-9) & (codes <= where.high + 1e-9)
    return bool(np.allclose(codes, np.rint(codes), atol=1e-9) and inside.all())


@given(
    seed=st.integers(0, 10**6),
    groups=st.integers(1, 3),
    width=st.integers(1, 9),
    outs=st.integers(1, 4),
    rank=st.integers(1, 12),
)
def test_rounding_by_data_never_costs_more_than_to_nearest(
    seed: int, groups: int, width: int, outs: int, rank: int
) -> None:
    weight, covariance = problem(seed, groups, width, outs, rank=rank)
    where = grid(weight)
    found, which = rounded(weight, covariance, where, factors=(1.0, 0.8))
    factors = np.asarray((1.0, 0.8))[which][:, None]
    assert on_grid(found, where, factors)
    costs = error_of(weight - found, covariance)
    for factor in (1.0, 0.8):
        near = where.scaled((factor,)).nearest(weight)
        plain = error_of(weight - near, covariance)
        assert (costs <= plain + 1e-9 * np.maximum(plain, 1)).all()


@pytest.mark.parametrize("seed", range(6))
def test_it_comes_near_to_the_best_of_all_codes(seed: int) -> None:
    weight, covariance = problem(seed, 1, 5, 1)
    where = grid(weight, qmax=2)
    every = np.array(list(itertools.product(range(-2, 3), repeat=5)), np.float64)
    wrong = weight[0, :, 0] - every * where.scale[0, :, 0]
    costs = np.einsum("nk,kl,nl->n", wrong, covariance[0], wrong)
    found, _ = rounded(weight, covariance, where)
    cost = error_of(weight - found, covariance).item()
    nearest = error_of(weight - where.nearest(weight), covariance).item()
    assert costs.min() - 1e-9 <= cost <= nearest + 1e-9
    assert cost <= np.quantile(costs, 0.01), "among the best hundredth of all codes"


def test_inputs_that_do_not_go_together_are_rounded_to_nearest() -> None:
    weight, _ = problem(0, 2, 70, 3)
    where = grid(weight)
    found, _ = rounded(weight, np.stack([np.eye(70)] * 2), where)
    np.testing.assert_allclose(found, where.nearest(weight))


def test_inputs_that_never_vary_keep_their_nearest_value() -> None:
    weight, covariance = problem(1, 1, 6, 4)
    covariance[:, 2], covariance[:, :, 2] = 0, 0
    where = grid(weight)
    found, _ = rounded(weight, covariance, where)
    np.testing.assert_allclose(found[:, 2], where.nearest(weight)[:, 2])
    nothing = rounded(weight, np.zeros_like(covariance), where)[0]
    np.testing.assert_allclose(nothing, where.nearest(weight))


def test_coordinate_descent_ends_where_no_single_change_is_better() -> None:
    weight, covariance = problem(2, 2, 8, 3)
    where = grid(weight)
    found = coordinate_descent(weight, covariance, where, where.nearest(weight), sweeps=50)
    cost = error_of(weight - found, covariance)
    for index in range(8):
        for step in (-1, 1):
            moved = found.copy()
            moved[:, index] += step * where.scale[:, 0]
            inside = np.abs(np.rint(moved / where.scale)[:, index]) <= 3
            worse = error_of(weight - moved, covariance) >= cost - 1e-9
            assert (worse | ~inside).all()


def test_values_outside_the_mask_are_zero_and_made_up_for() -> None:
    weight, covariance = problem(3, 1, 80, 5)
    mask = np.random.default_rng(0).random(weight.shape) > 0.3
    where = grid(weight)
    found, _ = rounded(weight * mask, covariance, where, mask=mask)
    assert not found[~mask].any()
    near = where.nearest(weight * mask)
    costs, plain = (error_of(weight * mask - each, covariance) for each in (found, near))
    assert (costs < plain).all()


def test_many_outputs_are_rounded_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, covariance = problem(4, 1, 12, 6)
    together, which = rounded(weight, covariance, grid(weight), factors=(0.7, 1.0))
    monkeypatch.setattr("graphopt.numerics.rounding._VALUES", 24)
    alone, of_each = rounded(weight, covariance, grid(weight), factors=(0.7, 1.0))
    np.testing.assert_allclose(alone, together)
    np.testing.assert_array_equal(of_each, which)


def test_steps_may_differ_from_input_to_input() -> None:
    weight, covariance = problem(5, 1, 8, 2)
    scale = np.repeat(np.array([0.3, 0.6]), 4)[None, :, None] * np.ones(weight.shape)
    where = CodeGrid(scale, np.full((1, 1, 1), -8), np.full((1, 1, 1), 7))
    found, _ = rounded(weight, covariance, where)
    assert on_grid(found, where)
    near = where.nearest(weight)
    costs, plain = (error_of(weight - each, covariance) for each in (found, near))
    assert (costs <= plain + 1e-12).all()


# scales


@pytest.mark.parametrize("seed", range(4))
def test_the_scale_is_about_the_cheapest_of_all(seed: int) -> None:
    weight, covariance = problem(seed, 2, 9, 3)
    places = np.broadcast_to(np.arange(6).reshape(2, 1, 3), weight.shape)
    where = grid(weight)
    factors = chosen_scales(weight, covariance, where, places)
    costs = _costs(weight, covariance, where, factors[places[:, :1]])
    every = np.stack(
        [_costs(weight, covariance, where, factor) for factor in np.linspace(0.4, 1, 61)]
    )
    assert (costs <= every[-1] + 1e-6).all(), "never worse than covering every value"
    assert costs.sum() <= 1.15 * every.min(axis=0).sum()


def _costs(weight: Floats, covariance: Floats, where: CodeGrid, factor: Floats | float) -> Floats:
    tried = CodeGrid(where.scale * factor, where.low, where.high)
    return error_of(weight - tried.nearest(weight), covariance)


def test_one_scale_for_all_outputs_goes_by_all_of_them() -> None:
    weight, covariance = problem(7, 1, 9, 5)
    where = CodeGrid(
        np.full((1, 1, 5), np.abs(weight).max() / 3), *(grid(weight).low, grid(weight).high)
    )
    (factor,) = chosen_scales(weight, covariance, where, np.zeros(weight.shape, np.intp))
    costs = {f: _costs(weight, covariance, where, f).sum() for f in (1.0, 0.9, 0.8, 0.7, 0.6)}
    assert _costs(weight, covariance, where, factor).sum() <= min(costs.values()) + 1e-9


def test_scales_of_blocks_go_by_how_much_their_inputs_vary() -> None:
    weight = np.array([[[1.0], [0.3], [0.3], [1.0]]])
    varies = np.diag([1e-6, 1.0, 1.0, 1.0])[None]
    places = np.array([[[0], [0], [1], [1]]])
    where = CodeGrid(np.ones((1, 4, 1)), np.full((1, 1, 1), -1), np.full((1, 1, 1), 1))
    first, second = chosen_scales(weight, varies, where, places)
    assert first < 0.45, "the large value of the first hardly counts"
    assert second > first
