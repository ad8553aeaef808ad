from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.passes.factorize import FactorizeMatmul
from graphopt.run.record import PassRecord
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, apply_pass, model_from_text
from graphopt.testing.apply import Data


def _apply(
    body: str,
    options: dict[str, Any],
    shape: str = "N,48",
    samples: Data | None = None,
    **weights: Any,
) -> tuple[Graph, PassRecord]:
    text = (
        f'<ir_version: 8, opset_import: ["" : 13]> g (float[{shape}] x) => (float y) {{ {body} }}'
    )
    model = model_from_text(text, weights)
    item = FactorizeMatmul(**{"allow_slower": True, **options})
    return apply_pass(item, model, samples=samples)


def _shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.dims) for name, t in graph.main.initializers.items()}


@pytest.mark.parametrize(
    ("body", "weights", "stored"),
    [
        ("y = MatMul (x, W)", {"W": (48, 64)}, [(10, 64), (48, 10)]),
        ("y = Gemm (x, W, B)", {"W": (48, 64), "B": (64,)}, [(64,), (10, 64), (48, 10)]),
        ("y = Gemm <transB = 1, alpha = 0.5> (x, W)", {"W": (64, 48)}, [(64, 10), (48, 10)]),
        (
            "t = Transpose (x) y = Gemm <transA = 1, beta = 2.0> (t, W, B)",
            {"W": (48, 64), "B": (64,)},
            [(64,), (10, 64), (48, 10)],
        ),
        ("t = Transpose (x) y = MatMul (W, t)", {"W": (64, 48)}, [(64, 10), (10, 48)]),
        ("t = Transpose (W) y = MatMul (x, t)", {"W": (64, 48)}, [(10, 64), (48, 10)]),
        (
            "t = Transpose (W) h = MatMul (x, t) y = Gemm <transB = 1> (x, W, h)",
            *({"W": (64, 48)}, [(10, 64), (48, 10), (64, 10)]),
        ),
    ],
)
def test_splits_each_form(
    body: str, weights: dict[str, Any], stored: list[tuple[int, ...]]
) -> None:
    graph, record = _apply(body, {"energy": 0.999}, **weights)
    assert record.status == "done"
    assert list(_shapes(graph).values()) == stored
    assert record.sqnr_db is not None
    assert record.sqnr_db > 20  # a thousandth of the energy is lost: 30 dB on white inputs
    assert graph.main.nodes[-1].output[0] == "y"
    assert record.macs is not None


def test_full_energy_of_a_matrix_of_low_rank_is_exact() -> None:
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((48, 5)) @ rng.standard_normal((5, 64))).astype(np.float32)
    graph, record = _apply("y = MatMul (x, W)", {"energy": 1 - 1e-9}, W=weight)
    assert _shapes(graph) == {"W_second": (5, 64), "W_first": (48, 5)}
    assert record.sqnr_db is not None
    assert record.sqnr_db > 100


@pytest.mark.parametrize(
    ("options", "rank"), [({"rank": 7}, 7), ({"macs": 0.5}, 13), ({"energy": 0.9}, 4)]
)
def test_each_budget(options: dict[str, Any], rank: int) -> None:
    graph, _ = _apply("y = MatMul (x, W)", options, W=(48, 64))
    assert _shapes(graph)["W_first"] == (48, rank)


def test_budgets_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="rank and bytes exclude each other; give one"):
        FactorizeMatmul(rank=3, bytes=0.5)


def test_never_above_break_even() -> None:
    _, record = _apply("y = MatMul (x, W)", {"rank": 28}, W=(48, 64))
    assert record.status == "nothing to do"
    assert "a higher rank than any that saves something" in record.skipped[0].reason


def test_a_shared_weight_is_factorized_once() -> None:
    graph, record = apply_pass(
        FactorizeMatmul(rank=6, allow_slower=True), MODELS["shared-weights"]()
    )
    assert len(record.changes) == 4
    assert sorted(_shapes(graph)) == ["B", "Twin_first", "Twin_second", "W_first", "W_second"]


def test_a_product_is_not_factorized_again() -> None:
    graph, _ = _apply("y = MatMul (x, W)", {"rank": 7}, W=(48, 64))
    _, record = apply_pass(FactorizeMatmul(rank=3, min_size=0), graph.to_model())
    assert record.status == "nothing to do"
    assert record.skipped[0].reason == "it is part of a low-rank product already"


@pytest.mark.parametrize(
    ("body", "weights", "words"),
    [
        ("y = MatMul (x, W)", {"W": (3, 48, 64)}, "only matrices are supported"),
        ("y = MatMul (x, W)", {"W": (48, 4)}, "fewer than min_size=1024 elements"),
        ("h = MatMul (x, W) i = Gather (W, k) y = Add (h, i)",
         {"W": (48, 48), "k": np.array([0])}, "also read by another Gather, which stays"),
        ("h = MatMul (x, W) y = Gemm <transB = 1> (h, W)", {"W": (48, 48)}, "both orientations"),
        ("y = MatMul (x, W)", {"W": np.full((48, 48), np.inf, np.float32)}, "NaN or infinity"),
    ],
)  # fmt: skip
def test_skips_with_a_reason(body: str, weights: dict[str, Any], words: str) -> None:
    _, record = _apply(body, {"rank": 3}, **weights)
    assert record.status == "nothing to do"
    assert words in record.skipped[0].reason


def test_half_precision_and_bodies() -> None:
    graph, record = apply_pass(FactorizeMatmul(rank=6, allow_slower=True), MODELS["bodies"]())
    assert record.status == "done"
    assert {"W1_first", "W2_second"} <= set(_shapes(graph))


def _loud(width: int, rows: int = 96) -> dict[str, Any]:
    """Inputs that lie about a few directions, away from zero."""
    rng = np.random.default_rng(0)
    mixes = rng.standard_normal((width, width)) * np.exp(-np.arange(width) / 4)[:, None]
    values = rng.standard_normal((rows, width)) @ mixes + 2 * rng.standard_normal(width)
    return {"x": values.astype(np.float32)}


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = MatMul (x, W)", {"W": (48, 64)}),
        ("h = MatMul (x, W) y = Add (h, B)", {"W": (48, 64), "B": (64,)}),
        ("y = Gemm <transB = 1, alpha = 0.5> (x, W)", {"W": (64, 48)}),
        ("t = Transpose (x) y = Gemm <transA = 1, beta = 2.0> (t, W, B)",
         {"W": (48, 64), "B": (64,)}),
        ("t = Transpose (x) y = MatMul (W, t)", {"W": (64, 48)}),
        ("h = MatMul (x, W) i = MatMul (x, W) y = Add (h, i)", {"W": (48, 64)}),
    ],
)  # fmt: skip
def test_with_samples_the_outputs_are_what_counts(body: str, weights: dict[str, Any]) -> None:
    samples = _loud(48)
    rng = np.random.default_rng(1)
    given = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    blind, told = (
        _apply(body, {"rank": 8}, samples=each, **given)[0].to_model() for each in (None, samples)
    )
    text = f'<ir_version: 8, opset_import: ["" : 13]> g (float[N,48] x) => (float y) {{ {body} }}'
    expected = _answers(model_from_text(text, given), samples)
    errors = [np.square(_answers(each, samples) - expected).sum() for each in (blind, told)]
    assert errors[1] < 0.2 * errors[0]
    about = expected - (expected.mean(0) if "B" in weights else 0)
    values = np.linalg.svd(about.T if "(W, t)" in body else about)[1]
    best = float(np.square(values[8:]).sum())
    assert errors[1] == pytest.approx(best, rel=0.15)  # the ridge holds something back


def _answers(model: Any, samples: dict[str, Any]) -> np.ndarray:
    session = Session(io.load(model), threads=1)
    return np.asarray(session.run(samples)["y"], np.float64)


@pytest.mark.parametrize(("rows", "enough"), [(4, False), (400, True)])
def test_few_rows_do_not_decide_alone(rows: int, enough: bool) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((48, 64)).astype(np.float32)
    values = rng.standard_normal((rows, 4)) @ rng.standard_normal((4, 48))  # of rank 4 in any case
    samples = {"x": values.astype(np.float32)}
    graph, _ = _apply("y = MatMul (x, W)", {"energy": 0.7}, samples=samples, W=weight)
    assert (_shapes(graph)["W_first"][1] <= 4) is enough


def test_inputs_that_never_vary_tell_nothing() -> None:
    samples = {"x": np.zeros((20, 48), np.float32)}
    found, plain = (
        _apply("y = Gemm (x, W, B)", {"rank": 4}, samples=each, W=(48, 64), B=(64,))[0]
        for each in (samples, None)
    )
    first, other = (graph.main.constant("W_first") for graph in (found, plain))
    assert first is not None
    assert other is not None
    np.testing.assert_array_equal(first.values, other.values)


def test_values_that_cannot_be_squared_cost_their_layer_its_samples_alone() -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,48] x) => (float[N,48] y) {
            [a] h = MatMul(x, A) z = Mul(h, K) [b] c = MatMul(z, B) y = Mul(c, L) }""",
        {
            "A": (48, 48),
            "B": (48, 48),
            "K": np.array([1e22], np.float32),
            "L": np.array([1e-22], np.float32),
        },
    )
    feeds = {"x": np.random.default_rng(0).normal(size=(200, 48)).astype(np.float32)}
    item = FactorizeMatmul(rank=8, allow_slower=True)
    _, record = apply_pass(item, model, samples=feeds)
    told = {each.node: each.what for each in record.changes}
    assert sorted(told) == ["a", "b"]
    assert "of its weights, as samples do not tell what it reads" in told["b"]
    assert "of its weights" not in told["a"]
