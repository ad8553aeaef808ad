"""The end of a run: figures, limits as asked and as measured, the recipe in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt import targets
from graphopt.contract.recipe import METADATA_KEY, Recipe
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import LimitError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.run import proof as final
from graphopt.run.environment import describe as environment
from graphopt.run.job import Job
from graphopt.run.judge import Probe
from graphopt.run.record import LimitRecord, Metric, PassRecord, Quality, RunRecord
from graphopt.runtime import latency
from graphopt.runtime.latency import Times
from graphopt.testing import MODELS


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two milliseconds before, one after."""
    times = [Times((2.0, 2.0)), Times((1.0, 1.0))]
    monkeypatch.setattr(latency, "measure", lambda sessions, feeds: times)


def job_of(probe: bool = True) -> Job:
    graph = io.load(MODELS["cnn"]())
    feeds = SyntheticSamples(graph, count=2)
    return Job(
        graph=graph.copy(),
        reference=graph,
        target=targets.find("generic"),
        samples=feeds,
        probe=Probe(graph, feeds, "random", 2, 1) if probe else None,
        threads=1,
    )


def record_of(job: Job, passes: list[PassRecord] | None = None) -> RunRecord:
    return RunRecord(
        command="optimize",
        environment=environment(job.target, 1),
        input=final.describe(job.reference, None),
        passes=passes or [],
    )


def rolled_back(reason: str, sqnr_db: float | None) -> PassRecord:
    return PassRecord("mask-weights", "", "rolled back", reason, 0.0, [], [], 0, None, sqnr_db)


def halved(job: Job) -> Job:
    constant = job.graph.main.constant("W4")
    assert constant is not None
    job.graph.main.set_constant(constant, constant.values / np.float32(2))
    return job


def test_a_model_in_figures(tmp_path: Path) -> None:
    graph = io.load(MODELS["cnn"]())
    path = tmp_path / "model.onnx"
    io.save(graph, path)
    on_disk = final.describe(graph, path, latency_ms=3.0)
    assert on_disk.sha256 == io.sha256(path)
    assert (on_disk.bytes, on_disk.latency_ms) == (path.stat().st_size, 3.0)
    in_memory = final.describe(graph, None)
    assert (in_memory.path, in_memory.sha256, in_memory.bytes) == (None, "", io.size(graph))
    assert in_memory.nodes == len(graph.main.nodes)
    assert in_memory.params == on_disk.params > 0


def test_the_proof_holds_quality_latency_audit_and_layers() -> None:
    job = halved(job_of())
    record = record_of(job)
    final.prove(job, record, None, None, Recipe(), "a note")
    assert record.quality is not None
    assert (record.quality.samples, record.quality.source) == (2, "random")
    assert record.quality.note == "a note"
    assert record.quality.worst_db is not None
    assert record.quality.worst_db < 20
    assert record.latency_ratio == 0.5
    assert (record.input.latency_ms, record.output and record.output.latency_ms) == (2.0, 1.0)
    assert record.audit is not None
    assert {entry.op_type for entry in record.audit.float_} >= {"Conv"}
    assert record.layers
    assert record.limits == []


def test_evaluation_samples_go_before_the_probe() -> None:
    job = job_of()
    record = record_of(job)
    samples = SyntheticSamples(job.reference, count=3, seed=1)
    final.prove(job, record, samples, None, Recipe(), "")
    assert record.quality is not None
    assert (record.quality.samples, record.quality.source) == (3, "eval")
    again = record_of(job)
    final.prove(job, again, job.samples, None, Recipe(), "")
    assert again.quality is not None
    assert again.quality.source == "calib"


def test_without_a_probe_the_note_says_why_nothing_was_run() -> None:
    job = job_of(probe=False)
    record = record_of(job)
    final.prove(job, record, None, None, Recipe(min_sqnr_db=20.0), "too large")
    assert record.quality == Quality({}, note="too large")
    assert record.limits == [LimitRecord("min_sqnr_db", 20.0, None, False)]


@pytest.mark.parametrize(
    ("asked", "found", "met"), [(20.0, 25.0, True), (20.0, 20.0, True), (20.0, 19.0, False)]
)
def test_least_sqnr(asked: float, found: float, met: bool) -> None:
    record = record_of(job_of())
    record.quality = Quality({"y": found, "z": 60.0, "n": None})
    limits = final._limits(record, Recipe(min_sqnr_db=asked))
    assert limits == [LimitRecord("min_sqnr_db", asked, found, met)]


@pytest.mark.parametrize(("after", "met"), [(79.0, True), (78.0, True), (77.5, False)])
def test_most_drop(after: float, met: bool) -> None:
    record = record_of(job_of())
    record.quality = Quality({"y": 30.0}, metric=Metric("top-1", 80.0, after))
    limits = final._limits(record, Recipe(max_drop=2.0))
    assert limits == [LimitRecord("max_drop", 2.0, 80.0 - after, met)]


def test_a_drop_that_nobody_measured_is_not_met() -> None:
    record = record_of(job_of())
    record.quality = Quality({"y": 30.0})
    limits = final._limits(record, Recipe(max_drop=2.0))
    assert limits == [LimitRecord("max_drop", 2.0, None, False)]


@pytest.mark.parametrize(("known", "measured"), [(11.0, 11.0), (None, 60.0)])
def test_a_limit_that_cost_a_pass_is_not_met(known: float | None, measured: float) -> None:
    passes = [rolled_back("min-sqnr asks 20 dB, output 'y' is at 11.0 dB", known)]
    record = record_of(job_of(), passes)
    record.quality = Quality({"y": 60.0}, metric=Metric("top-1", 80.0, 80.0))
    plan = Recipe(min_sqnr_db=20.0, max_drop=2.0)
    assert final._limits(record, plan) == [
        LimitRecord("min_sqnr_db", 20.0, measured, False),
        LimitRecord("max_drop", 2.0, 0.0, True),
    ]


def test_a_metric_limit_that_cost_a_pass_is_not_met() -> None:
    passes = [rolled_back("max-drop allows 2, the metric falls by 3", None)]
    record = record_of(job_of(), passes)
    record.quality = Quality({"y": 60.0}, metric=Metric("top-1", 80.0, 80.0))
    assert final._limits(record, Recipe(max_drop=2.0)) == [LimitRecord("max_drop", 2.0, 0.0, False)]


def metric(outputs: Any, labels: Any) -> float:
    """Share of samples in which the answer is class 0; labels say nothing."""
    return float(100 * (np.asarray(outputs[0]).argmax(-1) == 0).mean())


class Labelled(SyntheticSamples):
    @property
    def labels(self) -> Any:
        return np.zeros(self.count, np.int64)


def test_the_metric_guards_lossy_passes() -> None:
    job = job_of()
    samples = Labelled(job.reference, count=4)
    final.guard_metric(job, samples, ("class 0", metric), 5.0)
    assert job.max_drop == 5.0
    assert job.drop is not None
    assert job.drop(job.graph) == 0
    worse = job.graph.copy()
    bias = worse.main.constant("B4")
    assert bias is not None
    never_0 = np.where(np.arange(bias.shape[0]) == 0, -1e6, bias.values)
    worse.main.set_constant(bias, never_0.astype(np.float32))
    before = metric([_answers(job.reference, samples)], None)
    assert job.drop(worse) == before > 0


def test_a_metric_that_is_not_a_number_has_fallen_by_any_amount() -> None:
    job = job_of()
    samples = Labelled(job.reference, count=4)
    final.guard_metric(job, samples, ("lost", lambda outputs, labels: float("nan")), 5.0)
    assert job.drop is not None
    assert job.drop(job.graph) == float("inf")


def _answers(graph: Graph, samples: SyntheticSamples) -> Any:
    return np.concatenate(
        [sample.answers["y"] for sample in Probe(graph, samples, "eval", 4, 1).samples]
    )


def test_a_drop_can_only_be_limited_with_labels() -> None:
    job = job_of()
    final.guard_metric(job, None, None, None)
    assert job.drop is None
    with pytest.raises(LimitError, match="--max-drop needs --eval DATA with labels"):
        final.guard_metric(job, None, ("class 0", metric), 1.0)
    with pytest.raises(LimitError, match="a metric for them"):
        final.guard_metric(job, SyntheticSamples(job.reference), None, 1.0)


def test_the_recipe_is_embedded_once() -> None:
    graph = io.load(MODELS["cnn"]())
    before = len(graph.header.metadata_props)
    final.embed_recipe(graph, "one")
    final.embed_recipe(graph, "two")
    entries = [e.value for e in graph.header.metadata_props if e.key == METADATA_KEY]
    assert entries == ["two"]
    assert len(graph.header.metadata_props) == before + 1
