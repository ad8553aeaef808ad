"""Truncated SVD: best possible, and ranks that keep to their budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.numerics.lowrank import Budget, Cost, decompose, matrix_cost, ranks_between

MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    elements=st.floats(-10, 10, width=32),
)


@given(MATRICES, st.data())
def test_factors_lose_what_theory_says(matrix: np.ndarray, data: st.DataObject) -> None:
    found = decompose(matrix)
    rank = data.draw(st.integers(1, len(found.values)))
    left, right = found.factors(rank)
    assert left.shape == (matrix.shape[0], rank)
    assert right.shape == (rank, matrix.shape[1])
    total = float(np.square(matrix, dtype=np.float64).sum())
    lost = float(np.square(matrix - left.astype(np.float64) @ right).sum())
    assert lost == pytest.approx(found.lost(rank), abs=1e-5 * max(total, 1))
    assert found.energy(rank) == pytest.approx(1 - found.lost(rank) / (total or 1), abs=1e-9)


@given(MATRICES)
def test_both_factors_carry_the_same_share(matrix: np.ndarray) -> None:
    found = decompose(matrix)
    left, right = found.factors(len(found.values))
    np.testing.assert_allclose(
        np.square(left).sum(axis=0), np.square(right).sum(axis=1), rtol=1e-3, atol=1e-4
    )


@given(st.integers(1, 400), st.integers(1, 400))
def test_the_highest_rank_is_just_below_break_even(rows: int, columns: int) -> None:
    cost = matrix_cost(rows, columns)
    rank = cost.highest_rank
    assert rank * (rows + columns) < rows * columns
    assert (rank + 1) * (rows + columns) >= rows * columns
    assert cost.share(rank) < 1


@given(MATRICES, st.floats(0.01, 1))
def test_energy_is_reached_by_no_smaller_rank(matrix: np.ndarray, share: float) -> None:
    found = decompose(matrix)
    free = Cost(10**9, 1)
    rank = Budget("energy", share).rank(found.values, free)
    assert 1 <= rank <= len(found.values)
    assert found.energy(rank) >= share * (1 - 1e-9)
    assert rank == 1 or found.energy(rank - 1) < share


@given(st.integers(2, 300), st.integers(2, 300), st.floats(0.01, 1))
def test_macs_are_kept(rows: int, columns: int, share: float) -> None:
    cost = matrix_cost(rows, columns)
    values = np.ones(min(rows, columns))
    rank = Budget("macs", share).rank(values, cost)
    assert rank <= cost.highest_rank
    if rank:
        assert cost.share(rank) <= share * (1 + 1e-6)
    if rank < min(cost.highest_rank, len(values)):
        assert cost.share(rank + 1) > share * (1 - 1e-6)


def test_ranks_that_save_nothing_are_none() -> None:
    cost = matrix_cost(8, 8)  # break-even at 4
    values = np.ones(8)
    assert Budget("rank", 3).rank(values, cost) == 3
    assert Budget("rank", 4).rank(values, cost) == 0
    assert Budget("energy", 0.9).rank(values, cost) == 0
    assert Budget("macs", 0.2).rank(values, cost) == 0
    assert Budget("macs", 0.25).rank(values, cost) == 1


def test_a_matrix_of_zeros_is_rank_one() -> None:
    found = decompose(np.zeros((20, 20)))
    assert Budget("energy", 0.5).rank(found.values, matrix_cost(20, 20)) == 1
    assert found.energy(1) == 1
    assert not np.any(found.factors(1)[0])


@pytest.mark.parametrize(("kind", "value"), [("rank", 0), ("energy", 1.1), ("macs", -0.5)])
def test_budgets_have_bounds(kind: str, value: float) -> None:
    with pytest.raises(ValueError, match="no budget"):
        Budget(kind, value).rank(np.ones(3), Cost(100, 1))  # type: ignore[arg-type]  # parametrized


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones(3), "not a matrix"),
        (np.ones((0, 3)), "not a matrix"),
        (np.array([[np.nan]]), "not finite"),
    ],
)
def test_decompose_refuses(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompose(matrix)


METRICS = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 12), st.integers(0, 99))
"""Inputs, outputs, rows and a seed; fewer rows than inputs make a singular Gram matrix."""


def _layer(
    inputs: int, outputs: int, rows: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    loud = np.exp(rng.uniform(-2, 2, inputs))
    return rng.standard_normal((rows, inputs)) * loud, rng.standard_normal((inputs, outputs)), rng


@given(METRICS, st.data())
def test_in_a_metric_the_outputs_lose_what_theory_says(
    sizes: tuple[int, int, int, int], data: st.DataObject
) -> None:
    rows, matrix, _ = _layer(*sizes)
    found = decompose(matrix, rows.T @ rows)
    rank = data.draw(st.integers(1, len(found.values)))
    left, right = found.factors(rank)
    outputs = rows @ matrix
    lost = float(np.square(outputs - rows @ left.astype(np.float64) @ right).sum())
    best = float(np.square(np.linalg.svd(outputs)[1][rank:]).sum())
    total = float(np.square(outputs).sum())
    assert lost == pytest.approx(best, abs=1e-5 * total)  # factors are float32
    assert found.lost(rank) == pytest.approx(best, abs=1e-9 * total)
    assert found.energy(rank) == pytest.approx(1 - best / total, abs=1e-9)


@given(METRICS)
def test_no_other_product_of_that_rank_loses_less_of_the_outputs(
    sizes: tuple[int, int, int, int],
) -> None:
    rows, matrix, rng = _layer(*sizes)
    gram = rows.T @ rows
    rank = max(1, min(matrix.shape) // 2)
    found = decompose(matrix, gram)
    for start in (rng.standard_normal((len(matrix), rank)), decompose(matrix).left[:, :rank]):
        left = start
        for _ in range(20):  # alternating least squares, from where you like
            right = np.linalg.lstsq(rows @ left, rows @ matrix, rcond=None)[0]
            left = np.linalg.lstsq(right.T, matrix.T, rcond=None)[0].T
        lost = float(np.square(rows @ (matrix - left @ right)).sum())
        assert found.lost(rank) <= lost + 1e-9 * float(np.square(rows @ matrix).sum())


@given(METRICS)
def test_the_identity_is_the_plain_decomposition(sizes: tuple[int, int, int, int]) -> None:
    _, matrix, _ = _layer(*sizes)
    plain, found = decompose(matrix), decompose(matrix, np.eye(len(matrix)))
    np.testing.assert_allclose(found.values, plain.values, atol=1e-6 * plain.values[0])
    np.testing.assert_allclose(plain.left @ plain.right, matrix, atol=1e-9)


@pytest.mark.parametrize("gram", [np.eye(3), np.ones((2, 1)), np.full((2, 2), np.nan)])
def test_a_gram_matrix_has_to_fit(gram: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no Gram matrix of 2 inputs"):
        decompose(np.ones((2, 4)), gram)


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 1))
def test_ranks_to_choose_among_span_what_saves_something(
    rows: int, columns: int, share: float
) -> None:
    cost = matrix_cost(rows, columns)
    ranks = ranks_between(share, cost, cost.highest_rank)
    assert ranks == sorted(set(ranks))
    assert len(ranks) <= 15
    assert ranks[-1:] == ([cost.highest_rank] if cost.highest_rank else [])
    assert all(rank % 4 == 0 for rank in ranks[:-1]) or cost.highest_rank < 16
    assert all(rank > 0 for rank in ranks)
