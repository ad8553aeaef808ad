"""Factors of the parts of a sum, learnt from a few measurements of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.numerics.factors import draw_factors


def test_one_measurement_tells_what_all_have_in_common() -> None:
    factors = draw_factors(np.array([[1.0, 3.0]]), np.array([2.0]), np.random.default_rng(0), 0.0)
    assert factors @ [1.0, 3.0] == pytest.approx(2.0, rel=1e-2)
    assert factors == pytest.approx([0.5, 0.5], rel=1e-2)


def test_as_many_measurements_as_parts_tell_all_factors() -> None:
    rng = np.random.default_rng(0)
    true = np.array([1.0, 0.7, 1.5, 0.9])
    parts = rng.uniform(0, 1, (40, 4))
    factors = draw_factors(parts, parts @ true, rng, boldness=0.0)
    assert factors == pytest.approx(true, rel=0.05)


def test_the_mean_is_that_of_the_normal_equations() -> None:
    """Against the regression written with the precision matrix instead of the covariance."""
    rng = np.random.default_rng(1)
    parts, wholes = rng.uniform(0.5, 1, (3, 5)), np.array([4.0, 4.2, 3.9])
    common, error = wholes[0] / parts[0].sum(), (0.04 * wholes.mean()) ** 2
    prior = np.eye(5) / (0.5 * common) ** 2
    precise = prior + parts.T @ parts / error
    mean = np.linalg.solve(precise, prior @ np.full(5, common) + parts.T @ wholes / error)
    factors = draw_factors(parts, wholes, rng, boldness=0.0)
    assert factors == pytest.approx(np.maximum(mean, 0.15 * common), rel=1e-6)


def test_draws_spread_where_nothing_was_measured_and_agree_where_it_was() -> None:
    parts, wholes = np.array([[1.0, 0.0, 0.0]] * 3), np.array([1.0, 1.0, 1.0])
    rng = np.random.default_rng(2)
    draws = np.array([draw_factors(parts, wholes, rng) for _ in range(300)])
    assert draws[:, 0].std() < 0.03
    assert draws[:, 1].std() == pytest.approx(0.25, rel=0.2)


def test_no_factor_is_next_to_nothing() -> None:
    parts, wholes = np.array([[1.0, 1.0], [1.0, 9.0]]), np.array([2.0, 2.0])
    factors = draw_factors(parts, wholes, np.random.default_rng(3))
    assert factors.min() >= 0.15


def test_where_nothing_hurts_all_count_alike() -> None:
    factors = draw_factors(np.array([[1.0, 2.0]]), np.array([0.0]), np.random.default_rng(0))
    assert factors.tolist() == [1.0, 1.0]
