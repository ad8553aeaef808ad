"""Factors fitted to outputs against least squares on the rows themselves."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.numerics.lowrank_fit import OutputMetric, fit_factors, root

PRODUCTS = {
    "spatial": ("orw,rih->oihw", ((5, 2, 3), (2, 3, 2)), (5, 3, 2, 3)),
    "tucker": ("op,pqk,qi->oik", ((5, 2), (2, 3, 4), (3, 4)), (5, 4, 4)),
    "without an outer mix": ("pqk,qi->pik", ((5, 3, 4), (3, 4)), (5, 4, 4)),
    "without an inner mix": ("op,pqk->oqk", ((5, 2), (2, 4, 4)), (5, 4, 4)),
    "cp": ("or,rk,ri->oik", ((5, 3), (3, 4), (3, 4)), (5, 4, 4)),
}
EACH = pytest.mark.parametrize(("equation", "shapes", "whole"), PRODUCTS.values(), ids=PRODUCTS)


def _case(
    shapes: tuple[tuple[int, ...], ...], whole: tuple[int, ...], seed: int = 0
) -> tuple[np.ndarray, OutputMetric, list[np.ndarray]]:
    """Rows of input that go together, the metric of a random weight, and random factors."""
    rng = np.random.default_rng(seed)
    width = int(np.prod(whole[1:]))
    rows = rng.standard_normal((200, width)) @ rng.standard_normal((width, width))
    weight = rng.standard_normal(whole)
    return (
        rows,
        OutputMetric(weight, rows.T @ rows),
        [rng.standard_normal(shape) for shape in shapes],
    )


def _kept(rows: np.ndarray, weight: np.ndarray, made: np.ndarray) -> float:
    outputs = rows @ weight.reshape(len(weight), -1).T
    lost = outputs - rows @ made.reshape(len(weight), -1).T
    return 1 - float(np.square(lost).sum() / np.square(outputs).sum())


@EACH
def test_what_is_kept_is_that_of_the_outputs(
    equation: str, shapes: tuple[tuple[int, ...], ...], whole: tuple[int, ...]
) -> None:
    rows, metric, factors = _case(shapes, whole)
    made = np.einsum(equation, *factors)
    assert metric.kept(made) == pytest.approx(_kept(rows, metric.weight, made))
    assert metric.kept(metric.weight) == pytest.approx(1)


@EACH
@settings(max_examples=12)
@given(seed=st.integers(0, 99))
def test_more_sweeps_lose_no_more(
    equation: str, shapes: tuple[tuple[int, ...], ...], whole: tuple[int, ...], seed: int
) -> None:
    _, metric, factors = _case(shapes, whole, seed)
    kept = [metric.kept(np.einsum(equation, *factors))]
    kept += [
        metric.kept(np.einsum(equation, *fit_factors(metric, equation, factors, n)))
        for n in range(4)
    ]
    assert kept == sorted(kept) or np.diff(kept).min() > -1e-9


@EACH
def test_settled_factors_are_each_the_least_squares_given_the_others(
    equation: str, shapes: tuple[tuple[int, ...], ...], whole: tuple[int, ...]
) -> None:
    rows, metric, factors = _case(shapes, whole)
    found = fit_factors(metric, equation, factors, 0)
    outputs = (rows @ metric.weight.reshape(whole[0], -1).T).ravel()
    columns = []  # the outputs that each element of the factor of the outputs makes
    for place in np.ndindex(shapes[0]):
        unit = np.zeros(shapes[0])
        unit[place] = 1
        made = np.einsum(equation, unit, *factors[1:]).reshape(whole[0], -1)
        columns.append((rows @ made.T).ravel())
    best = np.linalg.lstsq(np.array(columns).T, outputs, rcond=None)[0]
    np.testing.assert_allclose(found[0].ravel(), best, rtol=1e-5, atol=1e-6)


@EACH
def test_an_exact_product_is_found_again(
    equation: str, shapes: tuple[tuple[int, ...], ...], whole: tuple[int, ...]
) -> None:
    rows, _, factors = _case(shapes, whole)
    metric = OutputMetric(np.einsum(equation, *factors), rows.T @ rows)
    rng = np.random.default_rng(1)
    near = [each + 0.1 * rng.standard_normal(each.shape) for each in factors]
    assert metric.kept(np.einsum(equation, *near)) < 0.999
    assert metric.kept(np.einsum(equation, *fit_factors(metric, equation, near, 50))) > 0.9999


def test_inputs_sum_over_the_axes_that_others_read() -> None:
    rows, metric, _ = _case(((1,),), (2, 3, 2, 2))
    rows = rows.reshape(-1, 3, 2, 2)
    for axes, letters in ((0, "ihw"), (1, "ihw"), (2, "ihw")):
        own, rest = letters[: 1 + axes], letters[1 + axes :]
        other = own.translate(str.maketrans(string.ascii_lowercase, string.ascii_uppercase))
        expected = np.einsum(f"n{own}{rest},n{other}{rest}->{own}{other}", rows, rows)
        found = metric.inputs(axes)
        np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-9)
    plain = OutputMetric(metric.weight)
    np.testing.assert_array_equal(plain.inputs(0), 4 * np.eye(3))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_roots_multiply_to_the_matrix_and_undo_each_other(size: int, rows: int, seed: int) -> None:
    part = np.random.default_rng(seed).standard_normal((rows, size))
    gram = part.T @ part
    half, inverse = root(gram)
    scale = float(np.abs(gram).max())
    np.testing.assert_allclose(half @ half, gram, atol=1e-9 * scale)
    np.testing.assert_allclose(half @ inverse @ half, half, atol=1e-6 * np.sqrt(scale))
