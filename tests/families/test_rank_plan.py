"""One budget of several layers: where it is spent, and what the clock has to say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.contract.passes import Context
from graphopt.errors import DataError, LimitError, Need, PassError
from graphopt.families import rank_plan
from graphopt.families.answer_damage import AnswerDamage
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute
from graphopt.passes.factorize import FactorizeConv, FactorizeMatmul
from graphopt.run import drive
from graphopt.run.record import PassRecord
from graphopt.testing import apply_pass, model_from_text
from graphopt.testing.apply import apply_passes

TEXT = """<ir_version: 8, opset_import: ["" : 13]>
  g (float[N,48] x) => (float y) {
    a = Gemm (x, W0, B0)  r = Relu (a)  b = Gemm (r, W1, B1)  s = Mul (b, faint)  y = Add (a, s)
  }"""


def _model() -> onnx.ModelProto:
    """Two layers of the same size; the second hardly shows in the output."""
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {f"W{i}": rng.standard_normal((48, 48)) for i in (0, 1)}
    weights |= {f"B{i}": rng.standard_normal(48) for i in (0, 1)}
    weights["faint"] = np.array([0.001])
    return model_from_text(TEXT, {k: np.asarray(v, np.float32) for k, v in weights.items()})


def _samples(count: int = 300) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"x": rng.standard_normal((count, 48)).astype(np.float32)}


def _apply(options: dict[str, Any], samples: Any = None) -> tuple[Graph, PassRecord]:
    return apply_pass(FactorizeMatmul(**options), _model(), samples=samples)


def _ranks(graph: Graph) -> dict[str, int]:
    names = ("W0", "W1")
    found = {name: graph.main.constant(f"{name}_first") for name in names}
    return {name: 0 if each is None else each.shape[1] for name, each in found.items()}


def _share(graph: Graph) -> float:
    """Elements of the matrices over those of the two layers; their MACs stand so too."""
    sizes = [math.prod(t.dims) for t in graph.main.initializers.values() if len(t.dims) == 2]
    return float(sum(sizes)) / (2 * 48 * 48)


@pytest.mark.parametrize("kind", ["macs", "bytes"])
@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
def test_the_budget_goes_where_the_answers_need_it(kind: str, share: float) -> None:
    graph, record = _apply({kind: share, "allow_slower": True}, _samples())
    assert record.status == "done"
    ranks = _ranks(graph)
    assert ranks["W0"] == 0  # as it was
    assert 0 < ranks["W1"] < 24
    assert share - 0.1 < _share(graph) <= share
    assert {each.reason for each in record.skipped} == {"others get cheaper at less damage"}


@pytest.mark.parametrize("kind", ["macs", "bytes"])
def test_without_samples_all_keep_the_same_share(kind: str) -> None:
    graph, _ = _apply({kind: 0.5, "allow_slower": True})
    assert _ranks(graph)["W0"] == _ranks(graph)["W1"] > 0
    assert 0.4 < _share(graph) <= 0.5


def test_layers_that_cannot_get_cheaper_count_with_what_they_cost() -> None:
    one = FactorizeMatmul(macs=0.75, nodes=("Gemm(b)",), allow_slower=True)
    graph, _ = apply_pass(one, _model(), samples=None)
    assert _ranks(graph) == {"W0": 0, "W1": 18}
    text = """<ir_version: 8, opset_import: ["" : 13]>
      g (float[N,48] x) => (float y) { a = MatMul (x, W0)  r = Relu (a)  y = MatMul (r, W1) }"""
    model = model_from_text(text, {"W0": (48, 64), "W1": (64, 36)})
    both = 48 * 64 + 64 * 36
    for samples in (None, _samples()):
        item = FactorizeMatmul(macs=0.75, min_size=64 * 36 + 1, allow_slower=True)
        graph, record = apply_pass(item, model, samples=samples)
        assert [each.reason for each in record.skipped] == ["fewer than min_size=2305 elements"]
        rank = _ranks(graph)["W0"]
        assert 0.65 < (rank * (48 + 64) + 64 * 36) / both <= 0.75
    item = FactorizeMatmul(macs=0.4, min_size=64 * 36 + 1, allow_slower=True)
    _, record = apply_pass(item, model, samples=None)
    assert record.skipped[-1].reason == "the others alone cost too much"


def test_a_form_that_is_slower_here_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def slow(base: Graph, other: Graph, threads: int) -> float:
        assert len(base.main.nodes) == 1
        assert len(other.main.nodes) == 2
        asked.append(threads)
        return 1.25

    monkeypatch.setattr(drive, "ratio_of_times", slow)
    for options in ({"rank": 4}, {"energy": 0.3}, {"macs": 0.5}):
        for samples in (None, _samples()):
            graph, record = _apply(options, samples)
            assert record.status == "nothing to do"
            assert _share(graph) == 1
            assert any("takes 1.25x its time here" in each.reason for each in record.skipped)
    assert asked
    asked.clear()
    for options in ({"rank": 4, "allow_slower": True}, {"bytes": 0.5}):
        assert _apply(options, _samples())[1].status == "done"
    assert not asked


def test_what_is_faster_is_taken_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    def ratio(base: Graph, other: Graph, threads: int) -> float:
        kernels = [attribute(node, "kernel_shape", []) for node in other.main.nodes]
        return 0.5 if [1, 1] in kernels else 1.5

    monkeypatch.setattr(drive, "ratio_of_times", ratio)
    text = """<ir_version: 8, opset_import: ["" : 13]>
      g (float[N,12,9,9] x) => (float y) { y = Conv (x, W, B) }"""
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((4, 12, 3)), rng.standard_normal((20, 4, 3))
    weight = np.einsum("rch,orw->ochw", first, second)  # which the spatial form has exactly
    weights = {"W": weight.astype(np.float32), "B": (20,)}
    values = rng.standard_normal((8, 12, 9, 9)).astype(np.float32)
    item = FactorizeConv(macs=0.5)
    _, record = apply_pass(item, model_from_text(text, weights), samples={"x": values})
    assert record.changes[0].what.startswith("channel, rank")
    monkeypatch.setattr(drive, "ratio_of_times", lambda *_: 0.9)
    _, record = apply_pass(item, model_from_text(text, weights), samples={"x": values})
    assert record.changes[0].what.startswith("spatial, rank")


@pytest.mark.parametrize(("most", "samples", "calls"), [(10**12, 64, 4), (1, 8, 2)])
def test_large_models_are_measured_less(
    most: int, samples: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Counted(AnswerDamage):
        def __init__(self, graph: Graph, context: Context, samples: int) -> None:
            asked.append(samples)
            super().__init__(graph, context, samples)

        def of(self, graph: Graph) -> float:
            asked.append(1)
            return super().of(graph)

    monkeypatch.setattr(rank_plan, "AnswerDamage", Counted)
    monkeypatch.setattr(rank_plan, "_MOST_MACS", most)
    _apply({"bytes": 0.6}, _samples())
    assert asked == [samples, *[1] * calls]


@pytest.mark.parametrize("error", [LimitError("large"), DataError("text"), None])
def test_answers_that_cannot_be_measured(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the loss of the outputs alone both layers are alike; where answers break, it is ruin."""

    class Broken(AnswerDamage):
        def __init__(self, graph: Graph, context: Context, samples: int) -> None:
            if error is not None:
                raise error
            super().__init__(graph, context, samples)

        def of(self, graph: Graph) -> float:
            if graph.main.holds("W1_first"):
                raise DataError("not finite")
            return super().of(graph)

    monkeypatch.setattr(rank_plan, "AnswerDamage", Broken)
    graph, record = _apply({"bytes": 0.7}, _samples())
    assert record.status == "done"
    ranks = _ranks(graph)
    if error is None:
        assert (ranks["W1"], ranks["W0"] > 0) == (0, True)
    else:
        assert min(ranks.values()) > 0


def test_a_walk_that_takes_too_much_memory_is_no_reason_to_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def short(*_: object) -> AnswerDamage:
        raise PassError("short", *needs)

    monkeypatch.setattr(rank_plan, "AnswerDamage", short)
    needs = [Need.MEMORY_LIMIT]
    assert _apply({"bytes": 0.7}, _samples())[1].status == "done"
    needs = []
    _, record = _apply({"bytes": 0.7}, _samples())
    assert (record.status, record.reason) == ("refused", "short")


@given(
    st.lists(st.tuples(st.just(0.0) | st.floats(1e-6, 1), st.floats(1e-9, 10)), max_size=3),
    st.floats(1e-6, 1),
)
def test_damage_never_falls_with_the_loss(measured: list[tuple[float, float]], loss: float) -> None:
    points = rank_plan._points(measured)
    damage = rank_plan._Damage(points or ((1.0, 1.0),))
    assert damage(0) == 0
    assert damage(loss) <= damage(loss * 1.5) * (1 + 1e-9)
    for at, found in points:
        assert damage(at) == pytest.approx(found)


@pytest.mark.parametrize("kind", ["macs", "bytes"])
@pytest.mark.parametrize("samples", [None, 300])
def test_once_more_the_budget_is_kept_already(kind: str, samples: int | None) -> None:
    options: dict[str, Any] = {kind: 0.7, "allow_slower": True, "min_size": 0}
    item = FactorizeMatmul(**options)
    data = None if samples is None else _samples(samples)
    _, records = apply_passes([item, item], _model(), samples=data)
    assert [each.status for each in records] == ["done", "nothing to do"]
    reasons = {each.reason for each in records[1].skipped}
    known = {"it is part of a low-rank product already"}
    assert reasons <= known | {f"all together have no more {kind} than that already"}


@pytest.mark.parametrize("kind", ["macs", "bytes"])
@pytest.mark.parametrize("samples", [None, _samples()])
def test_a_budget_is_kept_or_told_as_missed(kind: str, samples: Any) -> None:
    _, record = _apply({kind: 0.5, "allow_slower": True}, samples)
    assert record.missed is None
    graph, record = _apply(
        {kind: 0.5, "allow_slower": True, "nodes": ("Gemm",), "min_size": 48 * 48 + 1}, samples
    )
    assert record.missed is not None
    assert record.missed.reached == _share(graph) == 1
    assert record.missed.budget == kind


def test_what_is_left_is_counted_with_the_layers_that_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drive, "ratio_of_times", lambda *_: 1.25)
    for samples in (None, _samples()):
        _, record = _apply({"macs": 0.5}, samples)
        assert str(record.missed) == "macs=0.5 is missed at 1.000: no more forms may be taken"
