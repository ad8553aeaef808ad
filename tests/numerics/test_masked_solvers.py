"""Systems solved on masks, against numpy's solution of each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.numerics import masked_solvers as module
from graphopt.numerics.masked_solvers import masked_solvers

Floats = NDArray[np.float64]


def problem(seed: int, width: int, columns: int, ridge: float = 1e-2) -> tuple[Floats, ...]:
    """A matrix, right hand sides and a mask as floats, of which one column is empty."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(3 * width, width)) @ rng.normal(size=(width, width))
    rows *= rng.uniform(0.01, 100, width)  # inputs of very different size
    matrix = rows.T @ rows / len(rows)
    matrix += ridge * np.trace(matrix) / width * np.eye(width)
    mask = rng.random((width, columns)) < 0.6
    mask[:, 0] = False
    mask[:, 1] = mask[:, 2]
    right = rng.normal(size=(width, columns)) * matrix.diagonal()[:, None]
    return matrix, right, mask.astype(np.float64)


def solved(matrix: Floats, right: Floats, mask: Floats, near: Floats) -> Floats:
    found = np.full(right.shape, np.nan)
    for solver in masked_solvers(matrix, mask.astype(bool), near):
        found[:, solver.columns] = solver.solve(right[:, solver.columns])
    return found


def by_numpy(matrix: Floats, right: Floats, mask: Floats) -> Floats:
    found = np.zeros(right.shape)
    for column in range(right.shape[1]):
        held = np.flatnonzero(mask[:, column])
        found[held, column] = np.linalg.solve(matrix[np.ix_(held, held)], right[held, column])
    return found


def excess(matrix: Floats, right: Floats, found: Floats, best: Floats) -> Floats:
    """What more than the least is lost, by what there is to win."""

    def loss(x: Floats) -> Floats:
        lost: Floats = np.einsum("kc,kj,jc->c", x, matrix, x) - 2 * (right * x).sum(axis=0)
        return lost

    won = -loss(best)
    return (loss(found) - loss(best)) / np.where(won > 0, won, 1)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.booleans())
def test_factors_solve_each_on_its_mask(seed: int, width: int, few: bool) -> None:
    matrix, right, mask = problem(seed, width, 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FACTOR_BYTES", 1 if few else 1 << 20)
        found = solved(matrix, right, mask, np.zeros_like(right))
    best = by_numpy(matrix, right, mask)
    assert np.abs(excess(matrix, right, found, best)).max() < 1e-9
    assert not found[mask == 0].any()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.sampled_from([1e-1, 1e-3]))
def test_gradients_come_as_near_as_makes_no_difference(seed: int, width: int, ridge: float) -> None:
    matrix, right, mask = problem(seed, width, 7, ridge)
    near = np.random.default_rng(seed).normal(size=right.shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STEPS", 0)
        found = solved(matrix, right, mask, near)
    best = by_numpy(matrix, right, mask)
    assert np.abs(excess(matrix, right, found, best)).max() < 1e-5
    assert not found[mask == 0].any()


def test_wide_masks_of_their_own_go_by_gradients_and_shared_ones_by_a_factor() -> None:
    matrix = np.eye(400)
    own = np.random.default_rng(0).random((400, 20)) < 0.9
    kinds = [
        [type(each).__name__ for each in masked_solvers(matrix, mask, np.zeros(mask.shape))]
        for mask in (own, np.ones((400, 20), bool), own[:100], own[:, :2])
    ]
    assert kinds[1] == ["_Factors"]
    assert kinds[0] == ["_Gradients"]


def test_what_was_found_is_where_the_next_starts_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS", 0)
    matrix, right, mask = problem(1, 60, 5)
    (solver,) = masked_solvers(matrix, mask.astype(bool), np.zeros_like(right))
    steps = []
    plain = type(solver)._steps  # type: ignore[attr-defined]

    def counted(self: object, remains: Floats, enough: Floats) -> Floats:
        moved: Floats = plain(self, remains, enough)
        steps.append(float(np.abs(moved).max()))
        return moved

    monkeypatch.setattr(type(solver), "_steps", counted)
    first = solver.solve(right)
    taken = len(steps)
    assert taken
    again = solver.solve(right)
    assert len(steps) == taken  # nothing is left to do
    np.testing.assert_array_equal(first, again)
