"""Tucker-2 forms: what theory promises, and the best form found by trying."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.numerics.lowrank import Budget
from graphopt.numerics.tucker import Tucker, choose_ranks, spectrum, tucker, tucker_cost

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3))
WEIGHTS = SHAPES.flatmap(
    lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(-10, 10, width=32))
)
ROUNDING = 1e-9  # of the share of energy


def whole(found: Tucker) -> np.ndarray:
    return np.asarray(np.einsum("op,pq...,iq->oi...", found.outer, found.core, found.inner))


def tail(weight: np.ndarray, mode: int, rank: int) -> float:
    """Share of the energy that no form of that rank in that mode keeps."""
    values = np.linalg.svd(np.moveaxis(weight, mode, 0).reshape(weight.shape[mode], -1))[1]
    return float(np.square(values[rank:]).sum() / np.square(values).sum())


@given(WEIGHTS, st.data())
@settings(max_examples=60)
def test_between_the_bounds_of_theory(weight: np.ndarray, data: st.DataObject) -> None:
    total = float(np.square(weight, dtype=np.float64).sum())
    channels = spectrum(weight)
    r_out, r_in = (data.draw(st.integers(1, size)) for size in channels.kept.shape)
    found = tucker(channels, (r_out, r_in), weight.shape[2:])
    exact = weight.astype(np.float64)
    lost = float(np.square(exact - whole(found)).sum())
    assert 1 - found.energy == pytest.approx(lost / (total or 1), abs=1e-6 if total else 1)
    assert all(b >= a - ROUNDING for a, b in itertools.pairwise(found.history))
    if total:
        tails = tail(exact, 0, r_out), tail(exact, 1, r_in)
        # no form of these ranks loses less than the larger tail; HOSVD loses at most both, which
        # is twice the best: sqrt(2) times its error
        assert max(tails) - ROUNDING <= 1 - found.energy
        assert 1 - found.history[0] <= sum(tails) + ROUNDING


@given(WEIGHTS)
@settings(max_examples=40)
def test_the_table_of_energies_is_that_of_all_truncations(weight: np.ndarray) -> None:
    found = spectrum(weight)
    total = float(np.square(found.weight).sum()) or 1.0
    for p, q in itertools.product(*(range(1, size + 1) for size in found.kept.shape)):
        core = np.einsum("op,oik,iq->pqk", found.outer[:, :p], found.weight, found.inner[:, :q])
        kept = float(np.square(core).sum()) / total if weight.any() else 1.0
        assert found.kept[p - 1, q - 1] == pytest.approx(kept, abs=ROUNDING)


def made(rng: np.random.Generator, shape: tuple[int, ...], ranks: tuple[int, int]) -> np.ndarray:
    core = rng.standard_normal((*ranks, *shape[2:]))
    outer = rng.standard_normal((shape[0], ranks[0]))
    inner = rng.standard_normal((shape[1], ranks[1]))
    return np.asarray(np.einsum("op,pq...,iq->oi...", outer, core, inner))


@pytest.mark.parametrize("ranks", [(1, 1), (3, 2), (12, 4), (5, 8), (12, 8)])
def test_exact_at_the_true_ranks(ranks: tuple[int, int]) -> None:
    weight = made(np.random.default_rng(0), (12, 8, 3, 3), ranks)
    found = tucker(spectrum(weight), ranks, (3, 3))
    np.testing.assert_allclose(whole(found), weight, atol=1e-6)
    assert found.energy == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_rank_one_against_all_directions(seed: int) -> None:
    weight = np.random.default_rng(seed).standard_normal((2, 2, 2))
    angles = np.linspace(0, np.pi, 721)
    rays = np.stack([np.cos(angles), np.sin(angles)])
    kept = np.square(np.einsum("oa,oik,ib->abk", rays, weight, rays)).sum(axis=2)
    best = float(kept.max() / np.square(weight).sum())
    found = tucker(spectrum(weight), (1, 1), (2,))
    assert found.energy <= best + 1e-4
    assert 1 - found.history[0] <= 2 * (1 - best) + 1e-4
    assert found.energy == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("kind", ["outer", "inner", "taps", "scale"])
def test_turning_the_channels_changes_nothing(kind: str) -> None:
    rng = np.random.default_rng(1)
    weight = made(rng, (8, 6, 3, 3), (5, 4)) + 0.3 * rng.standard_normal((8, 6, 3, 3))
    basis = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    other_basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    turned = {
        "outer": np.tensordot(basis, weight, 1),
        "inner": np.einsum("ji,oihw->ojhw", other_basis, weight),
        "taps": weight[:, :, ::-1, [2, 0, 1]],
        "scale": -7.5 * weight,
    }[kind]
    one, other = (tucker(spectrum(w), (4, 3), (3, 3)).history for w in (weight, turned))
    np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize(
    "budget", [Budget("energy", 0.7), Budget("energy", 0.95), Budget("macs", 0.4)]
)
def test_ranks_against_trying_all(budget: Budget, strides: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((9, 7, 3, 3)) * (1 / np.arange(1, 10))[:, None, None, None]
    found = spectrum(weight)
    pairs = [
        (tucker_cost(weight.shape, pair, strides), found.kept[pair[0] - 1, pair[1] - 1], pair)
        for pair in itertools.product(range(1, 10), range(1, 8))
    ]
    dense = weight.size
    if budget.kind == "energy":
        fit = [p for p in pairs if p[1] >= budget.value and p[0] < dense]
        best = min(fit, key=lambda p: (p[0], -p[1]))
    else:
        fit = [p for p in pairs if p[0] <= budget.value * dense]
        best = max(fit, key=lambda p: (p[1], -p[0]))
    assert choose_ranks(found, budget, weight.shape, strides) == best[2]


def test_a_given_rank_is_for_both_sides() -> None:
    found = spectrum(np.random.default_rng(0).standard_normal((32, 4, 3, 3)))
    assert choose_ranks(found, Budget("rank", 3), (32, 4, 3, 3)) == (3, 3)
    assert choose_ranks(found, Budget("rank", 6), (32, 4, 3, 3)) == (6, 4)
    assert choose_ranks(found, Budget("rank", 31), (32, 4, 3, 3)) is None
    assert choose_ranks(found, Budget("energy", 1.0), (32, 4, 3, 3)) is None


def test_cost_leaves_out_what_is_not_needed() -> None:
    shape = (10, 6, 3, 5)
    assert tucker_cost(shape, (4, 2), (2, 3)) == 6 * (6 * 2) + 2 * 4 * 15 + 4 * 10
    assert tucker_cost(shape, (10, 2)) == 6 * 2 + 2 * 10 * 15
    assert tucker_cost(shape, (4, 6)) == 6 * 4 * 15 + 4 * 10


@pytest.mark.parametrize("ranks", [(4, 3), (8, 3), (4, 6)])
def test_balanced_factors(ranks: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    found = tucker(spectrum(rng.standard_normal((8, 6, 3, 3))), ranks, (3, 3))
    inner, core, outer = found.balanced()
    product = np.einsum("op,pqhw,iq->oihw", outer, core, inner)
    np.testing.assert_allclose(product, whole(found), atol=1e-10)
    squares = np.square(core)
    if ranks[0] < 8:
        np.testing.assert_allclose(np.square(outer).sum(axis=0), squares.sum(axis=(1, 2, 3)))
    else:
        np.testing.assert_array_equal(outer, np.eye(8))
    if ranks[1] < 6:
        np.testing.assert_allclose(np.square(inner).sum(axis=0), squares.sum(axis=(0, 2, 3)))
    else:
        np.testing.assert_array_equal(inner, np.eye(6))


def test_bad_input_is_refused() -> None:
    found = spectrum(np.ones((3, 2, 2)))
    for ranks in ((0, 1), (4, 1), (1, 3)):
        with pytest.raises(ValueError, match="no ranks"):
            tucker(found, ranks, (2,))
    with pytest.raises(ValueError, match="not the weight"):
        spectrum(np.ones((3, 2)))
    with pytest.raises(ValueError, match="not finite"):
        spectrum(np.full((3, 2, 2), np.nan))
