"""Second-order removal against brute force: solving for every choice, and for every step."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.numerics.removal import damped, second_order_mask
from graphopt.numerics.scores import AskedZeros, Mask, Pattern, block_mask, block_sums, zero_count

Floats = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)


def _problem(seed: int, out: int = 4, width: int = 8) -> tuple[Floats, Floats]:
    """Weights and the Gram matrix of inputs that hang together."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(40, width)) @ rng.normal(size=(width, width))
    return rng.normal(size=(out, width)), damped(rows.T @ rows / 40, 1e-2)


def _best(row: Floats, gram: Floats, kept: Floats) -> Floats:
    """The best row on the columns kept, by the normal equations."""
    found = np.zeros_like(row)
    columns = np.flatnonzero(kept)
    found[columns] = np.linalg.solve(gram[np.ix_(columns, columns)], gram[columns] @ row)
    return found


def _error(weights: Floats, gram: Floats, keep: Mask) -> float:
    """Least squared error of outputs with these zeros."""
    apart = [row - _best(row, gram, kept) for row, kept in zip(weights, keep, strict=True)]
    return sum(float(each @ gram @ each) for each in apart)


def _greedy(weights: Floats, gram: Floats, count: int, block: tuple[int, int]) -> Mask:
    """Optimal brain surgeon: the block whose loss costs least after re-fitting, one by one."""
    shape = block_sums(weights, block).shape
    stays = np.ones(shape, np.bool_)
    for _ in range(count):
        costs = {}
        for place in product(*map(range, shape)):
            if stays[place]:
                without = stays.copy()
                without[place] = False
                costs[place] = _error(weights, gram, block_mask(without, block))
        stays[min(costs, key=lambda place: costs[place])] = False
    return block_mask(stays, block)


def _errors(
    zeros: AskedZeros, out: int = 4, width: int = 8, count: int = 20
) -> dict[str, list[float]]:
    """Errors of masks for some problems, each after the best fit on the mask."""
    found: dict[str, list[float]] = {}
    for seed in range(count):
        weights, gram = _problem(seed, out, width)
        gone = zero_count(block_sums(weights, zeros.block).size, zeros.sparsity)
        masks = {
            "second-order": _second(weights, gram, zeros),
            "surgeon": _greedy(weights, gram, gone, zeros.block),
            "wanda": _by(weights**2 * np.diag(gram), zeros),
            "magnitude": _by(weights**2, zeros),
        }
        for name, keep in masks.items():
            assert (~keep).sum() == gone * zeros.block[0] * zeros.block[1]
            found.setdefault(name, []).append(_error(weights, gram, keep))
    return found


def _second(weights: Floats, gram: Floats, zeros: AskedZeros, zero: Mask | None = None) -> Mask:
    first = None if zero is None else zero[None]
    (keep,) = second_order_mask(weights[None], gram[None], zeros, first)
    return np.asarray(keep)


def _by(scores: Floats, zeros: AskedZeros) -> Mask:
    return block_mask(zeros.keep(block_sums(scores, zeros.block)), zeros.block)


@pytest.mark.parametrize("block", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("sparsity", [0.5, 0.75])
def test_no_worse_than_optimal_brain_surgeon(block: tuple[int, int], sparsity: float) -> None:
    errors = _errors(AskedZeros(sparsity, block=block))
    mean = {name: np.mean(np.log(each)) for name, each in errors.items()}
    assert mean["second-order"] < mean["surgeon"] + 0.05
    assert mean["second-order"] < min(mean["wanda"], mean["magnitude"]) - 0.2


def test_near_the_best_of_all_masks() -> None:
    apart = []
    for seed in range(20):
        weights, gram = _problem(seed, out=1, width=10)
        errors = []
        for columns in combinations(range(10), 5):
            keep = np.zeros((1, 10), np.bool_)
            keep[0, list(columns)] = True
            errors.append(_error(weights, gram, keep))
        found = _error(weights, gram, _second(weights, gram, AskedZeros(0.5)))
        assert found <= np.quantile(errors, 0.1)
        apart.append(np.log(found / min(errors)))
    assert np.mean(apart) < np.log(1.5)


def test_masks_of_wide_layers_are_as_good_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    apart = []
    for seed in range(20):
        weights, gram = _problem(seed, out=8, width=40)
        plain = _error(weights, gram, _second(weights, gram, AskedZeros(0.6)))
        monkeypatch.setattr("graphopt.numerics.removal._WIDE", 0)
        single = _second(weights, gram, AskedZeros(0.6))
        monkeypatch.undo()
        assert (~single).sum() == 192
        apart.append(np.log(_error(weights, gram, single) / plain))
    assert abs(np.mean(apart)) < 0.01


@given(SEEDS, st.floats(0, 1))
def test_independent_inputs_cost_what_wanda_says(seed: int, share: float) -> None:
    """Of a diagonal metric the cost is ``w^2 g``, and nothing can be made up for."""
    weights, _ = _problem(seed)
    gram = np.diag(np.arange(1.0, 9.0))
    best = _error(weights, gram, AskedZeros(share).keep(weights**2 * np.diag(gram)))
    assert _error(weights, gram, _second(weights, gram, AskedZeros(share))) <= 1.02 * best + 1e-12


def test_groups_share_the_zeros() -> None:
    """What one group reads is hardly there, so that it loses nearly all weights."""
    weights, gram = _problem(7)
    both = np.stack([weights, weights]), np.stack([gram, 1e-4 * gram])
    keep = second_order_mask(*both, AskedZeros(0.5))
    assert keep.sum() == keep.size // 2
    assert keep[0].mean() > 0.9
    alone = second_order_mask(both[0][:1], both[1][:1], AskedZeros(0.5))
    np.testing.assert_array_equal(alone[0], _second(weights, gram, AskedZeros(0.5)))


@given(SEEDS, st.sampled_from([(2, 4), (1, 4), (4, 8)]))
def test_patterns_hold(seed: int, numbers: tuple[int, int]) -> None:
    weights, gram = _problem(seed)
    keep = _second(weights, gram, AskedZeros(0, Pattern(*numbers)))
    assert (keep.reshape(4, -1, numbers[1]).sum(-1) == numbers[0]).all()


def test_a_pattern_costs_less_than_by_magnitude() -> None:
    zeros, logs = AskedZeros(0, Pattern(2, 4)), []
    for seed in range(20):
        weights, gram = _problem(seed)
        second = _error(weights, gram, _second(weights, gram, zeros))
        logs.append(np.log(second / _error(weights, gram, zeros.keep(weights**2))))
    assert np.mean(logs) < -0.2


def test_zeros_that_are_there_go_first() -> None:
    weights, gram = _problem(3)
    zero = np.random.default_rng(3).permutation(np.arange(32) < 13).reshape(4, 8)
    keep = _second(weights, gram, AskedZeros(0.5), zero)
    assert not keep[zero].any()
    assert keep.sum() == keep.size // 2


@pytest.mark.parametrize(("share", "kept"), [(0.0, 32), (1.0, 0)])
def test_nothing_and_everything(share: float, kept: int) -> None:
    assert _second(*_problem(4), AskedZeros(share)).sum() == kept


def test_inputs_that_are_never_used_go_first() -> None:
    weights, gram = np.ones((4, 8)), np.eye(8)
    gram[2, 2] = 0
    keep = _second(weights, damped(gram, 1e-2), AskedZeros(1 / 8))
    assert not keep[:, 2].any()
    assert damped(np.zeros((2, 2)), 1e-2).tolist() == [[1, 0], [0, 1]]


def test_blocks_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="blocks of 3 x 1 do not divide 4 x 8"):
        _second(*_problem(6), AskedZeros(0.5, block=(3, 1)))
