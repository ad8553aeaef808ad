"""Passes in order: groups that keep limits together, records, the dry run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest

from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.settings import Limits
from graphopt.contract.taken import Taken
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import LimitError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.passes.cleanup import EliminateDead, FuseBatchnorm
from graphopt.passes.prune import MaskWeights
from graphopt.passes.quantize import QuantizeStatic
from graphopt.run import sequence
from graphopt.run.means import Means
from graphopt.run.metrics import FunctionMetric
from graphopt.run.record import PassRecord
from graphopt.run.sequence import dry_run, run_passes
from graphopt.run.stage import Stage
from graphopt.testing import MODELS, staged


@dataclass(frozen=True, kw_only=True)
class Scale(Pass):
    """Multiplies a weight; as a repair it takes back what another one did."""

    factor: Annotated[float, Option("factor")] = 0.5
    name = "eliminate-dead"  # any known name, for the spec text in the record
    lossy: ClassVar[bool] = True

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        constant = graph.main.constant("W2")
        assert constant is not None
        constant.set(constant.values * np.float32(self.factor))
        changes.edit("W2", "scaled")
        return changes


@dataclass(frozen=True, kw_only=True)
class Repair(Scale):
    """A scale that counts as a repair."""

    joins: ClassVar[bool] = True
    must_help: ClassVar[bool] = True


class Labelled(SyntheticSamples):
    @property
    def labels(self) -> Any:
        return np.zeros(self.count, np.int64)


class Falling:
    """A metric that is 80 for the reference and 77 for what is measured beside it."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, outputs: Sequence[Any], labels: Any) -> float:
        self.calls += 1
        return 80.0 if self.calls % 2 else 77.0


def _staged(metric: Falling | None = None, **limits: Any) -> tuple[Stage, Means]:
    graph = io.load(MODELS["cnn"]())
    return staged(
        graph,
        limits=Limits(**limits),
        metric=None if metric is None else FunctionMetric("falling", metric),
        evaluation=None if metric is None else Labelled(graph, count=2),
    )


def _bytes(graph: Graph) -> bytes:
    written: bytes = graph.to_model().SerializeToString(deterministic=True)
    return written


def _statuses(records: list[PassRecord]) -> list[str]:
    return [record.status for record in records]


def test_a_record_tells_what_the_pass_left() -> None:
    stage, (record,) = run_passes(*_staged(), [FuseBatchnorm()])
    assert (record.status, record.name, record.spec) == ("done", "fuse-batchnorm", "fuse-batchnorm")
    assert record.sqnr_db is not None
    assert record.bytes == stage.graph.weight_bytes
    assert record.macs is None or record.macs > 0
    assert len(record.changes) == 1
    assert record.broken is None


@pytest.mark.parametrize(
    ("metric", "limits", "words", "limit"),
    [
        (None, {"min_sqnr_db": 60.0}, "min-sqnr asks 60 dB", "min-sqnr"),
        (Falling(), {"max_drop": 2.0}, "max-drop allows 2, falling falls by 3", "max-drop"),
    ],
)
def test_a_limit_that_is_broken_takes_a_lossy_pass_back(
    metric: Falling | None, limits: dict[str, Any], words: str, limit: str
) -> None:
    start, means = _staged(metric, **limits)
    stage, (record,) = run_passes(start, means, [MaskWeights()])
    assert (record.status, record.changes, record.taken) == ("rolled back", [], Taken())
    assert words in record.reason
    assert record.broken is not None
    assert record.broken.limit == limit
    assert stage is start
    with pytest.raises(LimitError):
        run_passes(*_staged(metric, strict=True, **limits), [MaskWeights()])


def test_a_limit_that_is_kept_lets_it_stay() -> None:
    _, (record,) = run_passes(*_staged(Falling(), min_sqnr_db=1.0, max_drop=4.0), [Scale()])
    assert record.status == "done"


def test_passes_run_in_order_with_progress() -> None:
    seen: list[tuple[str, int, int]] = []
    stage, means = staged(MODELS["cnn"](), progress=lambda *step: seen.append(step[:3]))
    _, records = run_passes(stage, means, [FuseBatchnorm(), EliminateDead()])
    assert _statuses(records) == ["done", "nothing to do"]
    assert [step for step in seen if step[2] == 2] == [
        ("fuse-batchnorm", 0, 2),
        ("eliminate-dead", 1, 2),
    ]


def test_a_dry_run_checks_and_edits_nothing() -> None:
    stage, means = _staged(strict=True)
    before = _bytes(stage.graph)
    records = dry_run(stage, means, [FuseBatchnorm(), MaskWeights()])
    assert _statuses(records) == ["planned", "planned"]
    assert _bytes(stage.graph) == before


def test_a_dry_run_says_which_passes_lack_samples() -> None:
    passes = [FuseBatchnorm(), QuantizeStatic()]
    missing = dry_run(*staged(MODELS["cnn"](), calibrated=False), passes)
    assert _statuses(dry_run(*_staged(), passes)) == ["planned", "planned"]
    assert _statuses(missing) == ["planned", "refused"]
    assert "calibration samples" in missing[1].reason


def test_a_pass_and_its_repair_keep_the_limits_together() -> None:
    assert _statuses(run_passes(*_staged(min_sqnr_db=40.0), [Scale()])[1]) == ["rolled back"]
    _, records = run_passes(*_staged(min_sqnr_db=40.0), [Scale(), Repair(factor=2.0)])
    assert _statuses(records) == ["done", "done"]
    assert records[0].sqnr_db is not None
    assert records[0].sqnr_db < 40  # not asked of it alone
    assert records[1].sqnr_db is not None
    assert records[1].sqnr_db > 40


def test_a_lossless_pass_behind_one_that_was_taken_back_is_judged_by_what_stayed() -> None:
    _, records = run_passes(*_staged(min_sqnr_db=60.0), [Scale(), FuseBatchnorm()])
    assert _statuses(records) == ["rolled back", "done"]


def test_a_limit_broken_in_spite_of_the_repair_takes_both_back() -> None:
    start, means = _staged(min_sqnr_db=40.0)
    stage, records = run_passes(start, means, [FuseBatchnorm(), Scale(), Repair(factor=1.5)])
    assert _statuses(records) == ["done", "rolled back", "rolled back"]
    assert all("min-sqnr asks 40 dB" in record.reason for record in records[1:])
    assert all(record.changes == [] for record in records[1:])
    assert stage.origin is None
    fused, _ = run_passes(*_staged(), [FuseBatchnorm()])
    assert _bytes(stage.graph) == _bytes(fused.graph) != _bytes(start.graph)


def test_a_repair_that_does_not_help_is_taken_back_alone() -> None:
    stage, records = run_passes(*_staged(), [Scale(), Repair(factor=0.5)])
    assert _statuses(records) == ["done", "rolled back"]
    alone, _ = run_passes(*_staged(), [Scale()])
    assert _bytes(stage.graph) == _bytes(alone.graph)
    with pytest.raises(LimitError, match="does not help"):
        run_passes(*_staged(strict=True), [Scale(), Repair(factor=0.5)])


def test_a_useless_repair_does_not_cost_a_pass_that_keeps_the_limit() -> None:
    _, records = run_passes(*_staged(min_sqnr_db=1.0), [Scale(), Repair(factor=0.5)])
    assert _statuses(records) == ["done", "rolled back"]


def test_repairs_go_with_the_pass_before_them() -> None:
    one, two, repair = Scale(), MaskWeights(), Repair()
    assert sequence._groups([one, repair, repair, two, repair]) == [
        [one, repair, repair],
        [two, repair],
    ]
    assert sequence._groups([repair, one]) == [[repair], [one]]


def test_the_metric_is_measured_once_for_a_group() -> None:
    metric = Falling()
    run_passes(*_staged(metric, max_drop=4.0), [Scale(), Repair(factor=1.5)])
    assert metric.calls == 2  # the reference and the group


def test_a_budget_that_was_missed_is_told_unless_the_pass_was_taken_back() -> None:
    item = MaskWeights(pattern="2:4", min_size=0)
    _, (record,) = run_passes(*_staged(), [item])
    assert (record.status, record.missed is None) == ("done", False)
    start, means = _staged(min_sqnr_db=60.0)
    _, (record,) = run_passes(start, means, [item])
    assert (record.status, record.missed) == ("rolled back", None)
    with pytest.raises(LimitError, match=r"mask-weights: sparsity=0\.5 is missed at 0\.4"):
        run_passes(*_staged(strict=True), [item])
