"""Pass ``prune-iteratively`` and the gradient criteria of ``mask-weights``, on whole models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.deadline import Deadline
from graphopt.errors import UsageError
from graphopt.graph.graph import Graph
from graphopt.passes.prune import MaskWeights
from graphopt.passes.train.prune_iteratively import PruneIteratively
from graphopt.run.drive import drive
from graphopt.testing import MODELS, apply_pass, staged

SHORT: dict[str, Any] = {"steps": 6, "batch": 2, "held_out": 0.0}
SIZES = {"W1": 48 * 32, "W2": 48 * 24}


def _zeros(graph: Graph) -> dict[str, int]:
    return {
        name: int((graph.read(tensor) == 0).sum())
        for name, tensor in graph.main.initializers.items()
        if name in SIZES
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"regrow": True},
        {"schedule": "even"},
        {"schedule": "once"},
        {"criterion": "movement"},
        {"criterion": "taylor"},
        {"criterion": "taylor", "schedule": "once"},
        {"criterion": "snip"},
        {"criterion": "snip", "schedule": "once"},
        {"ema": 0.5},
    ],
    ids=str,
)
def test_the_file_has_exactly_the_asked_zeros(options: dict[str, Any]) -> None:
    item = PruneIteratively(sparsity=0.9, **options, **SHORT)
    graph, record = apply_pass(item, MODELS["mlp"]())
    assert record.status == "done", record.reason
    assert sum(_zeros(graph).values()) == round(0.9 * sum(SIZES.values()))
    again, record = apply_pass(item, graph.to_model())
    assert record.status == "nothing to do"
    assert all("already" in skip.reason for skip in record.skipped)
    assert again.to_model() == graph.to_model()


def test_each_layer_has_its_share() -> None:
    graph, record = apply_pass(
        PruneIteratively(sparsity=0.3, scope="local", **SHORT), MODELS["mlp"]()
    )
    assert _zeros(graph) == {name: round(0.3 * size) for name, size in SIZES.items()}
    assert "30.0% of 1152 weights are zero" in [edit.what for edit in record.changes]


def test_a_pattern_holds_in_every_group() -> None:
    graph, _ = apply_pass(PruneIteratively(pattern="2:4", **SHORT), MODELS["mlp"]())
    for name, axis in (("W1", 1), ("W2", 0)):
        values = np.moveaxis(graph.read(graph.main.initializers[name]), axis, -1)
        assert ((values.reshape(-1, 4) != 0).sum(1) == 2).all()


def test_what_is_kept_is_trained_all_the_same() -> None:
    model = MODELS["mlp"]()
    graph, _ = apply_pass(PruneIteratively(keep=("Gemm",), **SHORT), model)
    assert _zeros(graph) == {"W1": 0, "W2": SIZES["W2"] // 2}
    before = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in ("W1", "B1"):
        assert (graph.read(graph.main.initializers[name]) != graph.read(before[name])).any()


def test_what_loses_weights_must_be_trained() -> None:
    _, record = apply_pass(PruneIteratively(exclude=("Gemm",), **SHORT), MODELS["mlp"]())
    assert record.status == "refused"
    assert "is to lose weights and is not trained; put it into keep" in record.reason


def test_a_limit_ends_it_early_and_is_told() -> None:
    options = {**SHORT, "held_out": 0.25, "evaluations": 6, "soft": "cosine"}
    graph, record = apply_pass(
        PruneIteratively(sparsity=0.9, min_score=0.9999, **options), MODELS["mlp"]()
    )
    assert record.status == "done"
    assert 0 < sum(_zeros(graph).values()) < round(0.9 * sum(SIZES.values()))
    assert record.missed is not None
    assert str(record.missed).startswith("sparsity=0.9 is missed at ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"criterion": "movement", "schedule": "once"}, "use schedule=cubic or even"),
        ({"min_score": 90.0, "held_out": 0.0}, "min_score needs a held-out part"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PruneIteratively(**options)


@pytest.mark.parametrize("criterion", ["taylor", "snip"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_masks_by_gradients(criterion: Any, scope: Any) -> None:
    model = MODELS["mlp"]()
    item = MaskWeights(sparsity=0.75, criterion=criterion, scope=scope)
    graph, record = apply_pass(item, model)
    assert record.status == "done"
    assert sum(_zeros(graph).values()) == round(0.75 * sum(SIZES.values()))
    plain, _ = apply_pass(MaskWeights(sparsity=0.75, scope=scope), model)
    assert graph.to_model() != plain.to_model()
    _, record = apply_pass(item, graph.to_model())
    assert record.status == "nothing to do"


def test_a_pruning_that_the_time_does_not_suffice_for_is_refused() -> None:
    item = PruneIteratively(sparsity=0.9, **SHORT)
    stage, means = staged(MODELS["mlp"](), count=8, deadline=Deadline(0.0))
    outcome = drive(item, stage, means)
    assert (outcome.stage, outcome.status) == (stage, "refused")
    assert outcome.reason == (
        "prune-iteratively: step 1 of 6 was the last; the time limit of 0 s was over, before all "
        "that should go was gone"
    )
