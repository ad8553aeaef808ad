"""Backward elimination against least squares solved by brute force."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.numerics import elimination
from graphopt.numerics.elimination import Reader, eliminate, output_energy, refit
from graphopt.numerics.removal import damped

DAMPING = 1e-3
TIGHT = 1e-7  # double precision through some ten downdates of matrices of condition 1e3


def _reader(seed: int, units: int, each: int, rest: int = 0, out: int = 3) -> Reader:
    """Correlated inputs; units hold columns all over, ``rest`` columns belong to none."""
    rng = np.random.default_rng(seed)
    size = units * each + rest
    rows = rng.normal(size=(4 * size, size)) @ rng.normal(size=(size, size))
    places = rng.permutation(size)[: units * each].reshape(units, each)
    return Reader(rows.T @ rows, rng.normal(size=(size, out)), places)


def _cost(reader: Reader, gone: Sequence[int]) -> float:
    """The least ``tr(D^T (G + l I) D)`` over changes D of the weight that empty some columns."""
    lost = reader.columns[list(gone)].reshape(-1)
    lost = lost[lost >= 0]
    stay = np.setdiff1d(np.arange(len(reader.weight)), lost)
    root = np.linalg.cholesky(damped(reader.moments, DAMPING)).T
    target = root[:, lost] @ reader.weight[lost]
    answer = np.linalg.lstsq(root[:, stay], target, rcond=None)[0] if len(stay) else 0
    left = target - (root[:, stay] @ answer if len(stay) else 0)
    return float((left**2).sum()) / reader.energy


def _brute(readers: Sequence[Reader]) -> tuple[list[int], list[float]]:
    order: list[int] = []
    errors = [0.0]
    units = len(readers[0].columns)
    while len(order) < units:
        costs = {
            unit: float(np.mean([_cost(reader, [*order, unit]) for reader in readers]))
            for unit in range(units)
            if unit not in order
        }
        best = min(costs, key=lambda unit: costs[unit])
        order.append(best)
        errors.append(costs[best])
    return order, errors


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=3),
)
def test_order_and_errors_are_those_of_least_squares(
    seed: int, units: int, forms: list[tuple[int, int]]
) -> None:
    readers = [_reader(seed + i, units, each, rest) for i, (each, rest) in enumerate(forms)]
    found = eliminate(readers, DAMPING)
    order, errors = _brute(readers)
    assert found.order.tolist() == order
    np.testing.assert_allclose(found.errors, errors, rtol=TIGHT, atol=TIGHT)


def test_waiting_columns_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    readers = [_reader(1, 40, 2, rest=5, out=90), _reader(2, 40, 3)]
    at_once = eliminate(readers)
    monkeypatch.setattr(elimination, "_PENDING", 1)
    often = eliminate(readers)
    assert often.order.tolist() == at_once.order.tolist()
    np.testing.assert_allclose(often.errors, at_once.errors, rtol=TIGHT)


def test_of_two_equal_channels_one_is_free_and_the_other_is_not() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 4))
    rows[:, 3] = rows[:, 1]
    reader = Reader(rows.T @ rows, np.ones((4, 2)), np.arange(4)[:, None])
    found = eliminate([reader], damping=1e-9)
    assert found.order[0] in (1, 3)
    assert found.errors[1] < TIGHT
    assert found.errors[2] > 0.1
    weight = refit(reader.moments, reader.weight, found.order[:1], damping=1e-9)
    np.testing.assert_allclose(rows @ weight, rows @ reader.weight, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3), st.integers(0, 2))
def test_refit_is_where_the_steps_lead(seed: int, units: int, each: int, rest: int) -> None:
    reader = _reader(seed, units, each, rest)
    found = eliminate([reader], DAMPING)
    for count in range(units + 1):
        lost = reader.columns[found.order[:count]].reshape(-1)
        weight = refit(reader.moments, reader.weight, lost, DAMPING)
        change = weight - reader.weight
        moments = damped(reader.moments, DAMPING)
        cost = float(np.einsum("io,io->", moments @ change, change)) / reader.energy
        assert cost == pytest.approx(found.errors[count], rel=TIGHT, abs=TIGHT)
        assert not weight[lost].any()


def test_units_may_hold_fewer_columns_than_others() -> None:
    whole = _reader(3, 4, 2)
    columns = whole.columns.copy()
    columns[2, 1] = -1
    ragged = Reader(whole.moments, whole.weight, columns)
    found = eliminate([ragged], DAMPING)
    order, errors = _brute([ragged])
    assert found.order.tolist() == order
    np.testing.assert_allclose(found.errors, errors, rtol=TIGHT)


def test_a_layer_that_gives_nothing_has_no_say() -> None:
    reader = _reader(4, 5, 1)
    dead = Reader(np.zeros((5, 5)), np.ones((5, 2)), np.arange(5)[:, None])
    assert eliminate([reader, dead]).order.tolist() == eliminate([reader]).order.tolist()
    assert output_energy([dead]).tolist() == [0.0] * 5


def test_output_energy_of_independent_units_is_their_share() -> None:
    reader = Reader(np.diag([1.0, 2.0, 3.0, 4.0]), np.ones((4, 2)), np.array([[0, 1], [2, 3]]))
    np.testing.assert_allclose(output_energy([reader]), [0.3, 0.7])
    np.testing.assert_allclose(output_energy([reader, reader]), [0.3, 0.7])


def test_wide_layers_lose_what_their_refit_says() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(900, 600)) @ rng.normal(size=(600, 600))
    moments, weight = rows.T @ rows, rng.normal(size=(600, 5))
    reader = Reader(moments, weight, np.arange(600).reshape(-1, 2)[::-1])
    found = eliminate([reader])
    for count in (1, 70, 250):
        lost = reader.columns[found.order[:count]].reshape(-1)
        change = refit(moments, weight, lost) - weight
        firm = moments + 1e-3 * np.trace(moments) / 600 * np.eye(600)
        error = np.einsum("io,io->", firm @ change, change) / reader.energy
        assert found.errors[count] == pytest.approx(error, rel=1e-6)
