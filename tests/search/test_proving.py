"""What was chosen by few samples has to hold on all of them, or gives way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract.recipe import Recipe
from graphopt.contract.settings import Limits
from graphopt.contract.spec import parse_passes
from graphopt.data import open_data
from graphopt.errors import LimitError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.run import verify
from graphopt.run.judge import Judge
from graphopt.run.means import Means
from graphopt.run.stage import Stage
from graphopt.runtime.latency import SAME, Ratio, Timed, Times
from graphopt.search import trials
from graphopt.search.candidate import Candidate
from graphopt.search.follow import follow
from graphopt.testing import model_from_text, staged

NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 4] x) => (float[n, 64] y) {
    a = MatMul(x, w) r = Relu(a) y = MatMul(r, v)
}"""
STATIC, WEIGHTS = "quantize-static", "quantize-weights{min_size=1}"
RNG = np.random.default_rng(0)


def rows(count: int, high: float) -> Array:
    return RNG.uniform(0, high, (count, 4)).astype(np.float32)


def means_of(**limits: Any) -> Means:
    """Calibrated within 0 .. 1, as the few samples of the judge are; most others reach 100."""
    graph = staged(model_from_text(NET, {"w": (4, 64), "v": (64, 64)}))[1].reference
    few = open_data({"x": rows(8, 1.0)}, graph)
    all_ = open_data({"x": np.concatenate([rows(8, 1.0), rows(56, 100.0)])}, graph)
    _, means = staged(graph, calibrated=False, judge=Judge(graph, few, "eval", threads=1))
    return replace(means, calibration=few, evaluation=all_, limits=Limits(**limits))


def status(spec: str, means: Means) -> tuple[dict[str, str], Graph]:
    plan = Recipe(passes=tuple(parse_passes(spec)))
    choice = follow(plan, Stage(means.reference, means), means)
    return {item.name: item.status for item in choice.records}, choice.stage.graph


def test_without_a_limit_what_was_named_is_written() -> None:
    found, graph = status(STATIC, means_of())
    assert found == {"quantize-static": "done"}
    assert any(node.op_type == "QuantizeLinear" for node in graph.main.nodes)


def test_a_limit_that_breaks_on_all_samples_takes_passes_back() -> None:
    means = means_of(min_sqnr_db=20)
    found, graph = status(f"eliminate-dead,{STATIC},correct-bias", means)
    assert found["quantize-static"] == "rolled back"
    assert graph is means.reference


def test_the_last_ones_go_first() -> None:
    means = means_of(min_sqnr_db=20)
    found, graph = status("mask-weights{sparsity=0.01,min_size=1},quantize-static", means)
    assert found == {"mask-weights": "done", "quantize-static": "rolled back"}
    assert not any(node.op_type == "QuantizeLinear" for node in graph.main.nodes)


def test_a_form_that_holds_is_kept() -> None:
    found, _ = status(WEIGHTS, means_of(min_sqnr_db=10))
    assert found == {"quantize-weights": "done"}


def test_strict_ends_there() -> None:
    with pytest.raises(LimitError, match="min-sqnr asks 20 dB, output 'y' is at "):
        status(STATIC, means_of(min_sqnr_db=20, strict=True))


def test_what_is_taken_back_says_the_limit_and_changed_nothing() -> None:
    means = means_of(min_sqnr_db=20)
    plan = Recipe(passes=tuple(parse_passes(STATIC)))
    choice = follow(plan, Stage(means.reference, means), means)
    (record,) = choice.records
    assert record.broken is not None
    assert (record.broken.limit, record.broken.asked, record.changes) == ("min-sqnr", 20, [])
    assert record.bytes == means.reference.weight_bytes
    assert choice.passes == []
    assert choice.verified is not None
    assert choice.verified.quality.worst_db == 300


def test_auto_takes_the_next_best_and_names_the_likely_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def by_name(_: Candidate, candidates: Sequence[Candidate], __: Means) -> list[Ratio]:
        return [Ratio(0.3 if "static" in item.name else 1.0, 0.01) for item in candidates]

    def untimed(graphs: Sequence[Graph], *_: Any, **__: Any) -> tuple[list[Timed], int]:
        return [Timed(Times((1.0,)), SAME)] * len(graphs), 1

    monkeypatch.setattr(trials, "ratios", by_name)
    monkeypatch.setattr(verify, "side_by_side", untimed)
    means = means_of()
    choice = follow(Recipe(auto=True), Stage(means.reference, means), means)
    verdicts = {item.name: item.verdict for item in choice.candidates}
    fallen = [name for name, words in verdicts.items() if "on all 64 samples (eval): " in words]
    chosen = next(item.name for item in choice.candidates if item.chosen)
    assert fallen
    assert all("static" in name for name in fallen)
    assert "static" not in chosen
    assert any("input 'x' goes from" in text for text in choice.messages)
    assert any("the same first 8 samples chose among" in text for text in choice.messages)
