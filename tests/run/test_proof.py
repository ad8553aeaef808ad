"""The end of a run: figures of a model, quality, latency, audit, the recipe in the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt.contract.passes import Skip
from graphopt.contract.recipe import METADATA_KEY
from graphopt.contract.settings import Limits
from graphopt.contract.spec import parse_passes
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import Need
from graphopt.graph import io
from graphopt.graph.node import label
from graphopt.run.means import Means
from graphopt.run.proof import describe, prove, with_recipe
from graphopt.run.quality import Caveat, Metric, Quality
from graphopt.run.record import LimitRecord, PassRecord
from graphopt.run.sequence import run_passes
from graphopt.run.stage import Stage
from graphopt.run.verify import verify
from graphopt.runtime import side_by_side
from graphopt.runtime.bursts import Runner
from graphopt.runtime.latency import SAME, Readings, Times
from graphopt.testing import MODELS, staged


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two milliseconds before, one after."""

    def fake(runners: Sequence[Runner], **options: Any) -> list[Readings]:
        times = [Times((2.0, 2.0)), Times((1.0, 1.0))]
        return [Readings(each, each) for each in times[: len(runners)]]

    monkeypatch.setattr(side_by_side, "measure", fake)


def halved(stage: Stage, means: Means) -> Stage:
    graph = stage.graph.copy()
    constant = graph.main.constant("W4")
    assert constant is not None
    constant.set(constant.values / np.float32(2))
    return Stage(graph, means)


def test_a_model_in_figures(tmp_path: Path) -> None:
    graph = io.load(MODELS["cnn"]())
    path = tmp_path / "model.onnx"
    written = io.save(graph, path)
    on_disk = describe(graph, path, latency_ms=3.0)
    assert on_disk.sha256 == io.sha256(path)
    assert (on_disk.bytes, on_disk.latency_ms) == (path.stat().st_size, 3.0)
    assert written == path.stat().st_size
    in_memory = describe(graph)
    assert (in_memory.path, in_memory.sha256, in_memory.bytes) == (None, "", io.size(graph))
    assert in_memory.nodes == len(graph.main.nodes)
    assert in_memory.params == on_disk.params > 0


def test_the_proof_holds_quality_latency_audit_and_layers() -> None:
    stage, means = staged(MODELS["cnn"](), calibrated=False)
    proof = prove(halved(stage, means), means, None, [], Caveat("a note", (Need.SAMPLES,)))
    assert proof.quality is not None
    assert (proof.quality.samples, proof.quality.source) == (2, "random")
    assert (proof.quality.note, proof.quality.needs) == ("a note", (Need.SAMPLES,))
    assert proof.quality.worst_db is not None
    assert proof.quality.worst_db < 20
    assert proof.ratio == SAME  # weights of other values take the same time
    assert (proof.before_ms, proof.after_ms) == (2.0, 2.0)
    assert proof.audit is not None
    assert {entry.op_type for entry in proof.audit.float_} >= {"Conv"}
    assert proof.layers
    assert proof.limits == []
    assert proof.start is None


def test_a_result_that_answers_badly_is_said_with_the_figure() -> None:
    stage, means = staged(MODELS["cnn"](), calibrated=False)
    graph = stage.graph.copy()
    for name in list(graph.main.initializers):
        constant = graph.main.constant(name)
        if constant is not None and constant.values.dtype == np.float32:
            constant.set(constant.values * np.float32(0.1))
    bad = Stage(graph, means)
    words = "the result answers badly: "
    told = [text for text in prove(bad, means, None, [], Caveat()).messages if words in text]
    assert len(told) == 1
    assert re.search(r"badly: -?\d+\.\d dB of 'y', at least 12 dB needed$", told[0])
    same = prove(stage, means, None, [], Caveat()).messages
    assert not any(words in text for text in same)
    assert not any(words in text for text in prove(bad, means, stage, [], Caveat()).messages)
    found = verify(bad, means)
    for after, told_of in ((50.0, False), (49.0, True)):
        quality = replace(found.quality, metric=Metric("top1", 50.0, after))
        by_labels = replace(found, quality=quality)
        messages = prove(bad, means, None, [], Caveat(), by_labels).messages
        assert any(words in text for text in messages) is told_of


def test_layers_are_counted_as_the_target_runs_them() -> None:
    stage, means = staged(MODELS["cnn"](), calibrated=False, target="generic")
    proof = prove(halved(stage, means), means, None, [], Caveat())
    assert proof.audit is not None
    assert proof.audit.table == "generic"


def test_layers_that_ran_in_floats_here_alone_are_told() -> None:
    """int8 around zero point 0 behind a Relu: one layer for TensorRT, floats for a CPU."""
    words = "computes on integers ran here in floats, from the rounded values"
    for target, told in (("tensorrt", True), ("arm", False)):
        stage, means = staged(MODELS["cnn"](), target=target)
        passes = parse_passes("quantize-static")
        made, records = run_passes(stage, means, passes)
        assert [record.status for record in records] == ["done"]
        messages = prove(made, means, None, records, Caveat()).messages
        assert any(words in text for text in messages) is told


@pytest.mark.parametrize(
    ("name", "told"), [("quantize-static", True), ("mask-weights", False), ("elsewhere", False)]
)
def test_only_passes_that_quantize_say_why_a_layer_is_float(name: str, told: bool) -> None:
    stage, means = staged(MODELS["cnn"](), calibrated=False)
    nodes = [label(node) for node in stage.graph.main.nodes]
    skips = [Skip(node, "for a reason of its own") for node in nodes]
    record = PassRecord(name, name, "nothing to do", "", 0.0, [], skips, 0, None, None)
    proof = prove(halved(stage, means), means, None, [record], Caveat())
    assert proof.audit is not None
    reasons = {entry.reason for entry in proof.audit.float_}
    assert ("for a reason of its own" in reasons) is told


@pytest.mark.parametrize(("wall_ms", "words"), [(1.0, 0), (9.0, 1)])
def test_the_times_told_fit_the_ratio_and_the_clock_is_named(
    monkeypatch: pytest.MonkeyPatch, wall_ms: float, words: int
) -> None:
    def fake(runners: Sequence[Runner], **options: Any) -> list[Readings]:
        walls, processors = (2.0, wall_ms), (3.0, 1.5)
        pairs = zip(walls, processors, strict=True)
        return [Readings(Times((wall,) * 5), Times((p,) * 5)) for wall, p in pairs]

    monkeypatch.setattr(side_by_side, "measure", fake)
    stage, means = staged(MODELS["cnn"](), calibrated=False)
    other = stage.graph.copy()
    next(node for node in other.main.nodes if node.op_type == "Relu").op_type = "Tanh"
    proof = prove(Stage(other, means), means, None, [], Caveat())
    assert proof.ratio is not None and proof.before_ms is not None
    assert proof.ratio.median == 0.5
    assert proof.after_ms == pytest.approx(proof.before_ms * proof.ratio.median)
    assert proof.before_ms == (3.0 if words else 2.0)
    assert len([text for text in proof.messages if "processor time" in text]) == words


def test_evaluation_samples_go_before_calibration_and_these_before_the_judge() -> None:
    stage, means = staged(MODELS["cnn"]())
    calibrated = prove(halved(stage, means), means, None, [], Caveat()).quality
    assert calibrated is not None
    assert calibrated.source == "calib"
    means = replace(means, evaluation=SyntheticSamples(means.reference, count=3, seed=1))
    evaluated = prove(halved(stage, means), means, None, [], Caveat()).quality
    assert evaluated is not None
    assert (evaluated.samples, evaluated.source) == (3, "eval")


def test_the_model_as_it_came_is_measured_too_where_it_is_not_the_reference() -> None:
    stage, means = staged(MODELS["cnn"]())
    proof = prove(stage, means, halved(stage, means), [], Caveat())
    assert proof.quality is not None
    assert proof.start is not None
    assert proof.start.worst_db is not None
    assert proof.quality.worst_db == 300 > proof.start.worst_db


def test_without_a_judge_the_note_says_why_nothing_was_run() -> None:
    stage, means = staged(MODELS["cnn"](), judged=False, limits=Limits(min_sqnr_db=20.0))
    proof = prove(stage, means, None, [], Caveat("too large", (Need.MEMORY_LIMIT,)))
    assert proof.quality == Quality({}, note="too large", needs=(Need.MEMORY_LIMIT,))
    assert proof.limits == [LimitRecord("min_sqnr_db", 20.0, None, False)]
    assert proof.ratio is None


def test_the_recipe_is_embedded_once() -> None:
    graph = io.load(MODELS["cnn"]())
    twice = with_recipe(with_recipe(graph, "one"), "two")
    entries = [e.value for e in twice.header.metadata_props if e.key == METADATA_KEY]
    assert entries == ["two"]
    assert len(twice.header.metadata_props) == len(graph.header.metadata_props) + 1
