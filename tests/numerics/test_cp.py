"""CP forms: exact where the tensor is, never worse by a sweep, bounded where no best one exists."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.numerics.cp import (
    Cp,
    choose_cp,
    cp,
    cp_cost,
    khatri_rao,
    lowest_rank,
    mttkrp,
    unfolding,
)
from graphopt.numerics.lowrank import Budget, Cost, decompose

SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)
TENSORS = SHAPES.flatmap(
    lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(-10, 10, width=32))
)


def tensor_of(rng: np.random.Generator, shape: tuple[int, ...], rank: int) -> np.ndarray:
    return Cp(tuple(rng.standard_normal((size, rank)) for size in shape), 1.0, (0.0,)).tensor()


@given(SHAPES, st.integers(1, 4), st.integers(0, 99))
def test_products_against_their_definition(shape: tuple[int, ...], rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensor = rng.standard_normal(shape)
    factors = [rng.standard_normal((size, rank)) for size in shape]
    whole = sum(math.prod(np.ix_(*(factor[:, r] for factor in factors))) for r in range(rank))
    np.testing.assert_allclose(Cp(tuple(factors), 1.0, (0.0,)).tensor(), whole, atol=1e-12)
    for mode in range(len(shape)):
        others = [factor for index, factor in enumerate(factors) if index != mode]
        product = khatri_rao(others)
        for r in range(rank):
            column: np.ndarray = others[0][:, r]
            for factor in others[1:]:
                column = np.kron(column, factor[:, r])
            np.testing.assert_allclose(product[:, r], column, atol=1e-12)
        expected = unfolding(tensor, mode) @ product
        np.testing.assert_allclose(mttkrp(tensor, factors, mode), expected, atol=1e-12)


@given(TENSORS, st.integers(1, 6))
@settings(max_examples=60)
def test_sweeps_never_lose(tensor: np.ndarray, rank: int) -> None:
    found = cp(tensor, rank)
    exact = tensor.astype(np.float64)
    total = float(np.square(exact).sum())
    lost = float(np.square(exact - found.tensor()).sum())
    assert 1 - found.energy == pytest.approx(lost / (total or 1), abs=1e-9)
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(found.history))
    assert found.history[-1] >= 1 - found.energy - 1e-12
    norms = [np.linalg.norm(factor, axis=0) for factor in found.factors]
    for norm in norms[1:]:
        np.testing.assert_allclose(norm, norms[0], rtol=1e-9, atol=1e-9)
    for mode in range(tensor.ndim):  # no unfolding has a better matrix of that rank
        matrix = decompose(unfolding(tensor, mode))
        assert found.energy <= matrix.energy(rank) + 1e-9


@pytest.mark.parametrize("rank", [1, 2, 4, 9])
def test_a_matrix_gets_its_best_form(rank: int) -> None:
    matrix = np.random.default_rng(0).standard_normal((10, 7)) / np.arange(1, 8)
    best = decompose(matrix).energy(rank)
    assert cp(matrix, rank, ridge=1e-9).energy == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize(("shape", "rank"), [((6, 5, 4), 3), ((20, 16, 9), 8), ((9, 8, 3, 3), 6)])
def test_exact_and_unique_at_the_true_rank(shape: tuple[int, ...], rank: int) -> None:
    rng = np.random.default_rng(0)
    truth = [rng.standard_normal((size, rank)) for size in shape]
    tensor = Cp(tuple(truth), 1.0, (0.0,)).tensor()
    found = cp(tensor, rank, ridge=1e-9)
    assert found.energy == pytest.approx(1, abs=1e-6)
    # by Kruskal's theorem the components themselves, but for their order and scale
    alike = np.ones((rank, rank))
    for one, other in zip(truth, found.factors, strict=True):
        units = [factor / np.linalg.norm(factor, axis=0) for factor in (one, other)]
        alike *= units[0].T @ units[1]
    assert sorted(np.abs(alike).argmax(axis=1)) == list(range(rank))
    assert np.abs(alike).max(axis=1).min() > 0.99


def test_the_ridge_costs_its_square() -> None:
    tensor = tensor_of(np.random.default_rng(2), (20, 16, 9), 8)
    lost = [1 - cp(tensor, 8, ridge=ridge).energy for ridge in (1e-3, 1e-4)]
    assert lost[0] / lost[1] == pytest.approx(100, rel=0.2)
    assert 1 - cp(tensor, 8).energy < 1e-7


@pytest.mark.parametrize("seed", range(5))
def test_rank_one_against_all_directions(seed: int) -> None:
    tensor = np.random.default_rng(seed).standard_normal((2, 2, 2))
    angles = np.linspace(0, np.pi, 181)
    rays = np.stack([np.cos(angles), np.sin(angles)])
    kept = np.square(np.einsum("ia,jb,kc,ijk->abc", rays, rays, rays, tensor, optimize=True))
    best = float(kept.max() / np.square(tensor).sum())
    assert cp(tensor, 1).energy == pytest.approx(best, abs=1e-3)


def test_components_stay_bounded_where_no_best_form_exists() -> None:
    """Rank 3, but as near to rank 2 as one likes (Kolda and Bader 2009, 3.3)."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5))
    tensor = np.einsum("i,j,k", x, x, y) + np.einsum("i,j,k", x, y, x) + np.einsum("i,j,k", y, x, x)
    norm = float(np.linalg.norm(tensor))
    bounded, free = (cp(tensor, 2, ridge=ridge) for ridge in (1e-2, 1e-12))
    assert bounded.norms.max() < 5 * norm
    assert free.norms.max() > 2 * bounded.norms.max()
    # the ridge itself says by how much: at the start it is what three unit factors cost
    squares = 3 * np.square(bounded.norms / norm) ** (1 / 3)
    assert 1e-2 * squares.sum() <= bounded.history[0]


@pytest.mark.parametrize("kind", ["channels", "taps", "scale"])
def test_invariances(kind: str) -> None:
    rng = np.random.default_rng(4)
    tensor = tensor_of(rng, (8, 6, 9), 4)
    basis = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    turned = {
        "channels": np.tensordot(basis, tensor, 1),
        "taps": tensor[:, :, rng.permutation(9)],
        "scale": -250.0 * tensor,
    }[kind]
    assert cp(turned, 4).energy == pytest.approx(cp(tensor, 4).energy, abs=1e-6)
    half = [cp(t, 2, starts=6).energy for t in (tensor, turned)]
    assert half[0] == pytest.approx(half[1], abs=0.02)  # of several minima, near ones


def test_the_same_seed_gives_the_same_form() -> None:
    tensor = np.random.default_rng(0).standard_normal((8, 6, 9))
    one, same, other = cp(tensor, 12, 1), cp(tensor, 12, 1), cp(tensor, 12, 2)
    for a, b in zip(one.factors, same.factors, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.factors[0], other.factors[0])


def test_more_starts_are_not_worse() -> None:
    tensor = np.random.default_rng(0).standard_normal((7, 6, 5))
    after = [cp(tensor, 5, starts=starts).history[9] for starts in (1, 3, 6)]
    assert after == sorted(after, reverse=True)


def test_no_lower_rank_keeps_the_share() -> None:
    tensor = tensor_of(np.random.default_rng(5), (12, 10, 9), 6)
    lowest = lowest_rank(tensor, 0.95)
    assert 1 < lowest <= 6
    assert lowest_rank(tensor, 1.0) == 6
    assert cp(tensor, lowest - 1, starts=5).energy < 0.95
    assert lowest_rank(np.zeros((2, 3, 4)), 0.9) == 1


def test_ranks_by_budget() -> None:
    tensor = tensor_of(np.random.default_rng(5), (12, 10, 9), 6)
    cost = cp_cost((12, 10, 3, 3))
    assert cost == Cost(1080, 31)
    assert cp_cost((12, 10, 3, 3), (2, 2)).per_rank == 4 * 10 + 9 + 12

    def rank(budget: Budget, cost: Cost = cost) -> int:
        found = choose_cp(tensor, budget, cost)
        return 0 if found is None else found.factors[0].shape[1]

    assert rank(Budget("rank", 4)) == 4
    assert rank(Budget("rank", 35)) == 0
    assert rank(Budget("macs", 0.5)) == 17
    assert rank(Budget("macs", 31 * 7 / 1080)) == 7
    assert rank(Budget("macs", 0.01)) == 0
    assert rank(Budget("energy", 0.9999)) == 6
    assert rank(Budget("energy", 0.9999), Cost(1080, 200)) == 0
    found = choose_cp(tensor, Budget("energy", 0.8), cost)
    assert found is not None
    assert found.energy >= 0.8


def test_zeros_and_bad_input() -> None:
    assert cp(np.zeros((3, 2, 2)), 2).energy == 1
    assert not cp(np.zeros((3, 2, 2)), 2).tensor().any()
    for tensor, rank in ((np.ones(3), 1), (np.ones((3, 2)), 0), (np.ones((3, 0)), 1)):
        with pytest.raises(ValueError, match="no CP form"):
            cp(tensor, rank)
    with pytest.raises(ValueError, match="not finite"):
        cp(np.full((2, 2), np.inf), 1)
