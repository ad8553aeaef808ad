"""Layers solved again, against numpy's least squares and by what majorisation promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.numerics import masked_solvers
from graphopt.numerics.least_squares import Behind, solve_layer

SEEDS = st.integers(0, 2**32 - 1)


def problem(seed: int, groups: int = 1, width: int = 5, outs: int = 4, count: int = 60) -> Any:
    """Rows, wanted results and a start."""
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(count, groups, width)) + rng.normal(size=width)).astype(np.float32)
    wanted = rng.normal(size=(count, groups, outs)).astype(np.float32)
    return rows, wanted, rng.normal(size=(groups, width, outs))


def by_numpy(rows: NDArray[Any], wanted: NDArray[Any], *, biased: bool = True) -> NDArray[Any]:
    """Weight, and bias in the last row, of one group."""
    ones = np.ones((len(rows), 1)) if biased else np.zeros((len(rows), 0))
    found: NDArray[Any] = np.linalg.lstsq(
        np.hstack([rows, ones]), wanted.astype(np.float64), rcond=None
    )[0]
    return found


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 3), st.booleans())
def test_without_a_ridge_it_is_least_squares(seed: int, groups: int, biased: bool) -> None:
    rows, wanted, start = problem(seed, groups)
    found = solve_layer(rows, wanted, start, ridge=0, biased=biased)
    for group in range(groups):
        expected = by_numpy(rows[:, group], wanted[:, group], biased=biased)
        # products are taken in float32
        np.testing.assert_allclose(found.weight[group], expected[:5], rtol=1e-3, atol=1e-4)
        bias = expected[5] if biased else np.zeros(4)
        np.testing.assert_allclose(found.bias[group], bias, rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_on_a_mask_each_output_is_solved_by_the_inputs_that_it_has(seed: int) -> None:
    rows, wanted, start = problem(seed)
    mask = np.random.default_rng(seed).random((1, 5, 4)) < 0.6
    mask[0, :, 3] = False
    found = solve_layer(rows, wanted, start, ridge=0, mask=mask)
    assert not found.weight[~mask].any()
    for out in range(4):
        inputs = np.flatnonzero(mask[0, :, out])
        expected = by_numpy(rows[:, 0][:, inputs], wanted[:, 0, out])
        np.testing.assert_allclose(
            found.weight[0, inputs, out], expected[:-1], rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(found.bias[0, out], expected[-1], rtol=1e-3, atol=1e-4)


def test_few_factors_at_once_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, wanted, start = problem(1, outs=9)
    mask = np.random.default_rng(2).random((1, 5, 9)) < 0.6
    added = np.random.default_rng(3).normal(size=wanted.shape).astype(np.float32)
    options: dict[str, Any] = {"mask": mask, "behind": Behind(added, low=0.0)}
    whole = solve_layer(rows, wanted, start, **options)
    monkeypatch.setattr(masked_solvers, "_FACTOR_BYTES", 1)
    parts = solve_layer(rows, wanted, start, **options)
    np.testing.assert_allclose(parts.weight, whole.weight, atol=1e-6)
    np.testing.assert_allclose(parts.bias, whole.bias, atol=1e-6)


@pytest.mark.parametrize("rows_differ", [True, False])
def test_where_the_rows_do_not_tell_the_start_stays(rows_differ: bool) -> None:
    rows, wanted, start = problem(4)
    rows[:, 0, 2] = 7 if rows_differ else rows[:, 0, 2]
    if not rows_differ:
        rows[:] = 3
    found = solve_layer(rows, wanted, start)
    np.testing.assert_allclose(found.weight[0, 2], start[0, 2], atol=1e-6)
    if not rows_differ:
        np.testing.assert_allclose(found.weight, start, atol=1e-6)
        now = 3 * found.weight[0].sum(axis=0) + found.bias[0]
        np.testing.assert_allclose(now, wanted[:, 0].mean(axis=0), atol=1e-5)


def test_no_rows_leave_the_weight_as_it_is() -> None:
    rows, wanted, start = problem(5, count=0)
    np.testing.assert_allclose(solve_layer(rows, wanted, start).weight, start)


@given(
    st.lists(st.tuples(*[st.floats(-9, 9, width=32)] * 2), min_size=1, max_size=8),
    st.sampled_from([(0.0, np.inf), (-np.inf, 6.0), (0.0, 6.0), (-np.inf, np.inf)]),
)
def test_the_nearest_of_what_looks_the_same(
    pairs: list[tuple[float, float]], bounds: tuple[float, float]
) -> None:
    wanted, now = np.array(pairs, np.float32).T
    near = Behind(None, *bounds).nearest(wanted, now)
    assert (near.clip(*bounds) == wanted.clip(*bounds)).all()
    grid = np.concatenate([np.linspace(-9, 9, 37, dtype=np.float32), now, wanted])
    for one, aim, best in zip(now, wanted, near, strict=True):
        same = grid[grid.clip(*bounds) == aim.clip(*bounds)]
        assert abs(best - one) <= np.abs(same - one).min()


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_each_round_comes_nearer_behind_a_flat_function(seed: int) -> None:
    rows, wanted, start = problem(seed)
    added = np.random.default_rng(seed).normal(size=wanted.shape).astype(np.float32)
    behind = Behind(added, low=0.0, high=1.0)
    last = np.inf
    for rounds in range(4):
        found = solve_layer(rows, wanted, start, ridge=0, behind=behind, rounds=rounds)
        sums = (rows[:, 0] @ found.weight[0] + found.bias[0] + added[:, 0]).astype(np.float32)
        seen = np.square(sums.clip(0, 1) - wanted[:, 0].clip(0, 1)).sum()
        bound = np.square(sums - behind.nearest(wanted[:, 0], sums)).sum()
        assert seen <= bound * (1 + 1e-5)
        assert bound <= last * (1 + 1e-5)
        last = bound


def test_what_is_added_behind_is_not_asked_of_the_layer() -> None:
    rows, _, start = problem(6)
    truth, bias = start + 1, 2.0
    added = np.random.default_rng(6).normal(size=(60, 1, 4)).astype(np.float32)
    wanted = (rows @ truth[0] + bias + added).astype(np.float32)
    found = solve_layer(rows, wanted, start, ridge=1e-9, behind=Behind(added))
    np.testing.assert_allclose(found.weight, truth, atol=1e-4)
    np.testing.assert_allclose(found.bias, bias, atol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("noise", "expected"), [(0.0, 1e-4), (30.0, 1e-1)])
def test_the_ridge_is_that_which_is_best_on_the_last_rows(
    noise: float, expected: float, masked: bool
) -> None:
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(100, 2, 40)).astype(np.float32)
    start = rng.normal(size=(2, 40, 50))
    truth = start + 0.3 * rng.normal(size=start.shape)
    mask = rng.random(start.shape) < 0.8 if masked else None
    start, truth = (each if mask is None else each * mask for each in (start, truth))
    clean = np.einsum("ngk,gko->ngo", rows, truth)
    wanted = (clean + noise * rng.normal(size=clean.shape)).astype(np.float32)
    found = solve_layer(rows, wanted, start, mask=mask)
    given = solve_layer(rows, wanted, start, mask=mask, ridge=expected)
    np.testing.assert_array_equal(found.weight, given.weight)
    assert found.weight.shape == (2, 40, 50)


def test_two_rows_decide_nothing_about_the_ridge() -> None:
    rows, wanted, start = problem(9, count=2)
    found = solve_layer(rows, wanted, start)
    given = solve_layer(rows, wanted, start, ridge=1e-3)
    np.testing.assert_array_equal(found.weight, given.weight)
