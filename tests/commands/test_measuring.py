"""How labels settle what outputs mean, and what is said of those that fit none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.commands.measuring import with_judge
from graphopt.data import open_data
from graphopt.errors import DataError, Need
from graphopt.graph import io
from graphopt.graph.tensors import Array
from graphopt.run.record import RunRecord
from graphopt.runtime.trial import Trial
from graphopt.testing import model_from_text, staged

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 6)).astype(np.float32)
W = RNG.standard_normal((6, 7)).astype(np.float32)
TWO = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N,6] x) => (float[N,4] first, float[N,3] second)
<int64[2] parts = {4, 3}> { y = MatMul (x, w)  first, second = Split<axis = 1> (y, parts) }"""
ONE = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N,6] x) => (float[N,1] y) { y = MatMul (x, w) }"""
RIGHT = (X @ W)[:, 4:].argmax(1)


def run(text: str = TWO, labels: Array | None = None, **more: Any) -> RunRecord:
    weight = W if text == TWO else W[:, :1]
    model = model_from_text(text, {"w": weight})
    data = {"x": X} if labels is None else {"x": X, "labels": labels}
    passes = more.pop("passes", "mask-weights{sparsity=0.9,min_size=1}")
    return graphopt.optimize(model, passes=passes, evaluation=data, **more).report


def test_labels_find_the_output_that_they_speak_of_and_settle_it() -> None:
    record = run(labels=RIGHT)
    quality = record.quality
    assert quality is not None and quality.metric is not None
    metric = quality.metric
    assert (metric.name, metric.output, metric.before) == ("top1", "second", 100)
    assert metric.after < 100
    first, second = record.tasks
    assert (first.kind, second.kind) == ("regression", "classes")
    assert second.why == "the labels: class numbers"
    assert quality.agreement_top1 is not None


def test_one_logit_is_no_share_though_some_lie_between_0_and_1() -> None:
    labels = ((X @ W[:, :1])[:, 0] > 0).astype(np.int64)
    record = run(ONE, labels=labels)
    assert record.quality is not None and record.quality.metric is not None
    assert (record.quality.metric.name, record.quality.metric.before) == ("accuracy", 100)
    assert record.tasks[0].form == "logits"


@pytest.mark.parametrize(
    ("labels", "kinds"),
    [(RIGHT, ["regression", "classes"]), (np.arange(40), ["regression", "regression"])],
)
def test_labels_to_train_on_settle_it_as_well(labels: Array, kinds: list[str]) -> None:
    graph = io.load(model_from_text(TWO, {"w": W}))
    samples = open_data({"x": X, "labels": labels}, graph)
    _, means = staged(graph, judged=False, calibrated=False, training=samples)
    means, _ = with_judge(means, None, Trial(wanted=False))
    assert [task.kind for task in means.tasks.values()] == kinds
    assert means.judge is not None
    assert means.judge.tasks == means.tasks
    assert means.metric is None


def test_labels_of_both_are_told() -> None:
    graph = io.load(model_from_text(TWO, {"w": W}))
    texts = open_data({"x": X, "labels": np.array(["ant", "bee", "cow"])[RIGHT]}, graph)
    marked = np.where(np.arange(40) < 10, -100, RIGHT)
    numbers = open_data({"x": X, "labels": marked}, graph)
    _, means = staged(graph, judged=False, calibrated=False, training=texts, evaluation=numbers)
    means, _ = with_judge(means, None, Trial(wanted=False))
    assert means.label_notes == (
        "labels: 25.0% say that they do not count, and are left out",
        "to train on, labels: 3 classes in sorted order: ant, bee, cow",
    )


@pytest.mark.parametrize("judged", [False, True])
def test_only_the_form_of_the_model_that_is_judged_counts(judged: bool) -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,6] x) => (float[N,7] y) { s = MatMul (x, w)  y = OP(s) }"""
    logits, shares = (
        io.load(model_from_text(text.replace("OP", op), {"w": W})) for op in ("Identity", "Softmax")
    )
    samples = open_data({"x": X}, logits)
    _, means = staged(logits, judged=False, calibrated=False, evaluation=samples)
    roles = (None, shares) if judged else (shares, None)
    means, _ = with_judge(means, None, Trial(wanted=False), roles[0], judged=roles[1])
    assert means.tasks["y"].other_form == ("probabilities" if judged else None)


def test_labels_that_fit_nothing_are_told() -> None:
    record = run(labels=np.arange(40))
    quality = record.quality
    assert quality is not None and quality.metric is None
    assert quality.note == (
        "no metric is measured: labels of shape [40], int64 from 0 to 39 fit no output: output "
        "'first' takes class numbers 0 to 3 of shape [N] or one-hot rows [N, 4] or numbers of "
        "shape [N, 4]; output 'second' takes class numbers 0 to 2 of shape [N] or one-hot rows "
        "[N, 3] or numbers of shape [N, 3]"
    )
    assert quality.needs == (Need.METRIC,)


def test_a_limit_on_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(
        DataError, match="max-drop has nothing to measure: no metric is measured: l"
    ):
        run(labels=np.arange(40), max_drop=1.0)
    with pytest.raises(
        DataError, match=r"^labels of shape \[40\], int64 from 0 to 39 fit no output"
    ):
        run(labels=np.arange(40), metric="top1")


def test_the_word_of_the_user_counts_more_than_labels() -> None:
    record = run(labels=(X @ W)[:, :3] > 0, tasks={"second": "multi-label"})
    assert record.quality is not None and record.quality.metric is not None
    assert (record.quality.metric.name, record.quality.metric.output) == ("f1", "second")
    assert record.tasks[1].given


DETECTOR = """<ir_version: 8, opset_import: ["" : 13]>
g (float[1,20,4] x, float[1,1,20] rank) => (float[K,4] found, float[K] sure)
<int64[1] most = {20}, float[1] iou = {0.5}, float[1] least = {0.5}, int64[1] from = {2},
 int64[1] to = {3}, int64[1] axis = {1}, int64[1] all = {-1}, int64[2] rows = {-1, 4}> {
  boxes = MatMul (x, w)
  chosen = NonMaxSuppression (boxes, rank, most, iou, least)
  column = Slice (chosen, from, to, axis)
  places = Reshape (column, all)
  flat = Reshape (boxes, rows)
  found = Gather (flat, places)
  ranks = Reshape (rank, all)
  sure = Gather (ranks, places)
}"""


def test_boxes_are_labels_of_a_detector() -> None:
    rng = np.random.default_rng(3)
    model = model_from_text(DETECTOR, {"w": np.eye(4, dtype=np.float32)})
    corner = 50.0 * np.arange(20)[None, :, None] + rng.uniform(0, 9, (12, 20, 2))
    x = np.concatenate([corner, corner + rng.uniform(10, 30, (12, 20, 2))], 2).astype(np.float32)
    rank = rng.random((12, 1, 20)).astype(np.float32)
    labels = np.where(rank[:, 0, :, None] > 0.5, x, -1)
    data = {"x": x[:, None], "rank": rank[:, None], "labels": labels}
    passes = "mask-weights{sparsity=0.9,min_size=1}"
    record = graphopt.optimize(model, passes=passes, evaluation=data).report
    assert record.quality is not None and record.quality.metric is not None
    metric = record.quality.metric
    assert (metric.name, metric.output, metric.before) == ("ap50", "found", 100)
    assert metric.after < 50
    assert [each.name for each in metric.beside] == ["recall"]
    assert "labels: boxes of two corners" in record.messages
    assert record.tasks[0].kind == "boxes"


TAGGER = """<ir_version: 8, opset_import: ["" : 13]>
g (float[N,T,6] x) => (float[N,T,3] tags) { tags = MatMul (x, w) }"""


@pytest.mark.parametrize("kind", ["class numbers", "numbers"])
def test_samples_of_different_lengths_have_labels_of_their_own_length(
    tmp_path: Path, kind: str
) -> None:
    weight = W[:, :3]
    for number, length in enumerate((4, 2, 5, 3)):
        x = np.random.default_rng(number).standard_normal((1, length, 6)).astype(np.float32)
        right = x @ weight
        labels = right.argmax(2) if kind == "class numbers" else right[..., 0]
        np.savez(tmp_path / f"{number}.npz", x=x, labels=labels)
    model = model_from_text(TAGGER, {"w": weight})
    passes = "mask-weights{sparsity=0.7,min_size=1}"
    record = graphopt.optimize(model, passes=passes, evaluation=tmp_path).report
    assert record.quality is not None
    metric = record.quality.metric
    if kind == "numbers":
        assert metric is None
        assert record.quality.note.startswith("no metric is measured: labels of shape [4, 5]")
        return
    assert metric is not None
    assert (metric.name, metric.before) == ("accuracy", 100)
    assert metric.after < 100
    assert "labels: 30.0% say that they do not count, and are left out" in record.messages
