from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest

from graphopt import targets
from graphopt.contract.passes import Changes, Context, MinMax, Option, Pass
from graphopt.contract.preconditions import CalibrationSamples
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import LimitError, PassError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.passes.cleanup import EliminateDead, FuseBatchnorm
from graphopt.passes.prune import MaskWeights
from graphopt.passes.quantize import QuantizeStatic
from graphopt.run import drive as runner
from graphopt.run.job import Job
from graphopt.run.judge import Probe
from graphopt.run.record import PassRecord
from graphopt.testing import MODELS


class _Test(Pass):
    name = "eliminate-dead"  # any known name, for the spec text in the record

    def run(self, graph: Graph, context: Context) -> Changes:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Halve(_Test):
    """Halves a weight and calls it lossless."""

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        constant = graph.main.constant("W2")
        assert constant is not None
        graph.main.set_constant(constant, constant.values / np.float32(2))
        changes.edit("W2", "halved")
        return changes


@dataclass(frozen=True, kw_only=True)
class Halve20(Halve):
    """The same, and honest about it."""

    lossy: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Break(_Test):
    """Leaves a node that reads what nothing computes."""

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        graph.main.nodes[-2].input[0] = "nowhere"
        graph.main.touch()
        changes.edit("graph", "broken")
        return changes


@dataclass(frozen=True, kw_only=True)
class Refuse(_Test):
    """Refuses after an edit, which a pass should not do; the edit must not stay."""

    def run(self, graph: Graph, context: Context) -> Changes:
        graph.main.remove([graph.main.nodes[0]])
        raise PassError("not with this model")


@dataclass(frozen=True, kw_only=True)
class Ask(_Test):
    """Asks for statistics and leaves the answers in its changes."""

    requires = (CalibrationSamples(),)

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        low, high = context.observe([MinMax("r1"), MinMax("x")])[MinMax("r1")]
        changes.skip("r1", f"{low >= 0} {high > low}")
        return changes


def _job(samples: bool = True, **options: Any) -> Job:
    graph = io.load(MODELS["cnn"]())
    feeds = SyntheticSamples(graph, count=2)
    return Job(
        graph=graph.copy(),
        reference=graph,
        target=targets.find("generic"),
        samples=feeds if samples else None,
        probe=Probe(graph, feeds, "random", 2, 1),
        threads=1,
        **options,
    )


def _bytes(graph: Graph) -> bytes:
    written: bytes = graph.to_model().SerializeToString(deterministic=True)
    return written


def test_a_pass_that_holds_its_promise_stays() -> None:
    job = _job()
    record = runner.apply(job, FuseBatchnorm())
    assert (record.status, record.name, record.spec) == ("done", "fuse-batchnorm", "fuse-batchnorm")
    assert record.sqnr_db is not None
    assert record.sqnr_db > runner.LOSSLESS_DB
    assert record.bytes == job.graph.weight_bytes
    assert record.macs is None or record.macs > 0
    assert len(record.changes) == 1


@pytest.mark.parametrize(
    ("item", "status", "words"),
    [
        (Halve(), "rolled back", "lossless asks 90 dB"),
        (Break(), "rolled back", "nowhere"),
        (Refuse(), "refused", "not with this model"),
        (EliminateDead(), "nothing to do", "found nothing in this model that it changes"),
    ],
)
def test_what_breaks_a_promise_leaves_no_trace(item: Pass, status: str, words: str) -> None:
    job = _job()
    before = _bytes(job.graph)
    record = runner.apply(job, item)
    assert (record.status, record.changes) == (status, [])
    assert words in record.reason
    assert _bytes(job.graph) == before
    assert job.float_graph is None


def test_strict_ends_the_run() -> None:
    with pytest.raises(PassError, match="not with this model"):
        runner.apply(_job(strict=True), Refuse())
    with pytest.raises(LimitError, match="lossless asks"):
        runner.apply(_job(strict=True), Halve())


def test_a_lossy_pass_stays_without_a_limit_and_the_float_graph_is_kept() -> None:
    job = _job()
    before = _bytes(job.graph)
    assert runner.apply(job, Halve20()).status == "done"
    assert job.float_graph is not None
    assert _bytes(job.float_graph) == before
    assert job.context().reference is job.float_graph


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_sqnr_db": 60.0}, "min-sqnr asks 60 dB"),
        ({"drop": lambda graph: 3.0, "max_drop": 2.0}, "max-drop allows 2, the metric falls by 3"),
    ],
)
def test_a_limit_that_is_broken_takes_a_lossy_pass_back(
    options: dict[str, Any], words: str
) -> None:
    job = _job(**options)
    before = _bytes(job.graph)
    record = runner.run_passes(job, [MaskWeights()])[0]
    assert (record.status, record.changes) == ("rolled back", [])
    assert words in record.reason
    assert _bytes(job.graph) == before
    assert job.float_graph is None
    with pytest.raises(LimitError):
        runner.run_passes(_job(strict=True, **options), [MaskWeights()])


@dataclass(frozen=True, kw_only=True)
class Explode(Halve20):
    """Leaves a weight that is no number."""

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = super().run(graph, context)
        constant = graph.main.constant("W2")
        assert constant is not None
        graph.main.set_constant(constant, constant.values * np.float32(np.nan))
        return changes


def test_answers_that_are_no_numbers_are_never_kept() -> None:
    job = _job()
    record = runner.run_passes(job, [Explode()])[0]
    assert record.status == "rolled back"
    assert "not numbers" in record.reason
    constant = job.graph.main.constant("W2")
    assert constant is not None
    assert np.isfinite(constant.values).all()


def test_a_limit_that_is_kept_lets_it_stay() -> None:
    job = _job(min_sqnr_db=1.0, drop=lambda graph: 3.0, max_drop=4.0)
    assert runner.run_passes(job, [Halve20()])[0].status == "done"


def test_statistics_are_gathered_for_the_pass_that_needs_them() -> None:
    job = _job()
    assert runner.apply(job, Ask()).skipped[0].reason == "True True"
    record = runner.apply(_job(samples=False), Ask())
    assert (record.status, record.reason) == (
        "refused",
        "eliminate-dead needs calibration samples; give them with --calib DATA",
    )


def test_passes_run_in_order_with_progress() -> None:
    seen: list[tuple[str, int, int]] = []
    job = _job(progress=lambda *step: seen.append(step))
    records = runner.run_passes(job, [FuseBatchnorm(), EliminateDead()])
    assert [record.status for record in records] == ["done", "nothing to do"]
    assert ("fuse-batchnorm", 0, 2) in seen


def test_a_dry_run_checks_and_edits_nothing() -> None:
    job = _job()
    before = _bytes(job.graph)
    records = runner.dry_run(job, [FuseBatchnorm(), MaskWeights()])
    assert [record.status for record in records] == ["planned", "planned"]
    assert _bytes(job.graph) == before


def test_a_dry_run_says_which_passes_lack_samples() -> None:
    passes = [FuseBatchnorm(), QuantizeStatic()]
    known = [record.status for record in runner.dry_run(_job(), passes)]
    missing = runner.dry_run(_job(samples=False), passes)
    assert known == ["planned", "planned"]
    assert [record.status for record in missing] == ["planned", "refused"]
    assert "--calib" in missing[1].reason


def test_a_fork_goes_its_own_way() -> None:
    job = _job()
    fork = job.fork()
    runner.apply(fork, FuseBatchnorm())
    assert len(fork.graph.main.nodes) == len(job.graph.main.nodes) - 1


@dataclass(frozen=True, kw_only=True)
class Scale(_Test):
    """Multiplies a weight; as a repair it takes back what another one did."""

    factor: Annotated[float, Option("factor")] = 0.5
    lossy: ClassVar[bool] = True

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        constant = graph.main.constant("W2")
        assert constant is not None
        graph.main.set_constant(constant, constant.values * np.float32(self.factor))
        changes.edit("W2", "scaled")
        return changes


@dataclass(frozen=True, kw_only=True)
class Repair(Scale):
    """A scale that counts as a repair."""

    joins: ClassVar[bool] = True
    must_help: ClassVar[bool] = True


def _statuses(records: list[PassRecord]) -> list[str]:
    return [record.status for record in records]


def test_a_pass_and_its_repair_keep_the_limits_together() -> None:
    job = _job(min_sqnr_db=40.0)
    assert _statuses(runner.run_passes(job, [Scale()])) == ["rolled back"]
    records = runner.run_passes(job, [Scale(), Repair(factor=2.0)])
    assert _statuses(records) == ["done", "done"]
    assert records[0].sqnr_db is not None
    assert records[0].sqnr_db < 40  # not asked of it alone
    assert records[1].sqnr_db is not None
    assert records[1].sqnr_db > 40


def test_a_lossless_pass_behind_one_that_was_taken_back_is_judged_by_the_restored_graph() -> None:
    job = _job(min_sqnr_db=60.0)
    records = runner.run_passes(job, [Halve20(), FuseBatchnorm()])
    assert [record.status for record in records] == ["rolled back", "done"]


def test_a_limit_broken_in_spite_of_the_repair_takes_both_back() -> None:
    job = _job(min_sqnr_db=40.0)
    before = _bytes(job.graph)
    records = runner.run_passes(job, [FuseBatchnorm(), Scale(), Repair(factor=1.5)])
    assert _statuses(records) == ["done", "rolled back", "rolled back"]
    assert all("min-sqnr asks 40 dB" in record.reason for record in records[1:])
    assert all(record.changes == [] for record in records[1:])
    assert job.float_graph is None
    fused = _job()
    runner.run_passes(fused, [FuseBatchnorm()])
    assert _bytes(job.graph) == _bytes(fused.graph) != before


def test_a_repair_that_does_not_help_is_taken_back_alone() -> None:
    job = _job()
    records = runner.run_passes(job, [Scale(), Repair(factor=0.5)])
    assert _statuses(records) == ["done", "rolled back"]
    assert records[1].reason.startswith("it does not help: ")
    alone = _job()
    runner.run_passes(alone, [Scale()])
    assert _bytes(job.graph) == _bytes(alone.graph)
    with pytest.raises(LimitError, match="does not help"):
        runner.run_passes(_job(strict=True), [Scale(), Repair(factor=0.5)])


def test_a_useless_repair_does_not_cost_a_pass_that_keeps_the_limit() -> None:
    records = runner.run_passes(_job(min_sqnr_db=1.0), [Scale(), Repair(factor=0.5)])
    assert _statuses(records) == ["done", "rolled back"]


def test_repairs_go_with_the_pass_before_them() -> None:
    one, two, repair = Scale(), Halve20(), Repair()
    assert runner._groups([one, repair, repair, two, repair]) == [
        [one, repair, repair],
        [two, repair],
    ]
    assert runner._groups([repair, one]) == [[repair], [one]]


def test_the_metric_is_measured_once_for_a_group() -> None:
    asked: list[Graph] = []

    def drop(graph: Graph) -> float:
        asked.append(graph)
        return 0.0

    runner.run_passes(_job(drop=drop, max_drop=1.0), [Scale(), Repair(factor=1.5)])
    assert len(asked) == 1
