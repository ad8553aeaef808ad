"""Answers against labels of every kind of head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from graphopt.bridge.training.judged import Judged, judged_by
from graphopt.contract.training import LossOptions
from graphopt.errors import DataError, UsageError
from graphopt.graph.tensors import Array
from graphopt.tasks.label_values import IGNORED
from graphopt.tasks.task import Task

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)).astype(np.float32)
MAPS = RNG.normal(size=(6, 4, 3, 4)).astype(np.float32)
TAGS = (RNG.random((6, 4)) < 0.4).astype(np.int64)


def fitted(
    labels: Array | None, answer: Array, task: Task | None = None, **options: Any
) -> tuple[Judged, Array]:
    given = LossOptions(alpha=1.0, **options)
    meant = task or Task("y", "regression", 1)
    _, judged, values = judged_by(labels, {"y": meant}, {"y": answer}, given)
    return judged, values


def loss_of(judged: Judged, answer: Array, labels: Array) -> float:
    return float(judged.loss(torch.from_numpy(answer), torch.from_numpy(labels)))


def test_classes_are_judged_by_cross_entropy() -> None:
    labels = np.array([0, 1, 3, 2, 0, 1])
    judged, values = fitted(labels, LOGITS)
    assert (judged.hard, judged.task.kind) == ("cross-entropy", "classes")
    expected = functional.cross_entropy(torch.from_numpy(LOGITS), torch.from_numpy(labels))
    assert loss_of(judged, LOGITS, values) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("mark", [-100, 255])
def test_maps_are_judged_over_the_axis_of_classes_and_without_what_is_marked(mark: int) -> None:
    labels = RNG.integers(0, 4, (6, 3, 4))
    labels[:, 0] = mark
    judged, values = fitted(labels, MAPS, Task("y", "classes", 1, "logits"))
    expected = functional.cross_entropy(
        torch.from_numpy(MAPS), torch.from_numpy(labels), ignore_index=mark
    )
    assert loss_of(judged, MAPS, values) == pytest.approx(float(expected), rel=1e-5)


def test_parts_of_a_batch_add_up_where_they_hold_unlike_numbers_of_labels() -> None:
    labels = RNG.integers(0, 4, (6, 3, 4))
    labels[0], labels[1, 1:] = -100, -100
    task = Task("y", "classes", 1, "logits")
    judged, values = fitted(labels, MAPS, task, class_weights="balanced")
    parts = [
        loss_of(judged, MAPS[p], values[p]) / 3 for p in (slice(0, 2), slice(2, 4), slice(4, 6))
    ]
    assert sum(parts) == pytest.approx(loss_of(judged, MAPS, values), rel=1e-5)
    assert loss_of(judged, MAPS[:1], values[:1]) == 0


def test_a_class_may_be_ignored_that_is_one() -> None:
    labels = np.array([0, 1, 3, 2, 0, 1])
    _, values = fitted(labels, LOGITS, ignore=0)
    assert values.tolist() == [IGNORED, 1, 3, 2, IGNORED, 1]


@pytest.mark.parametrize("kind", [np.int64, np.float32, bool, np.uint8])
def test_rows_of_yes_and_no_are_judged_one_by_one(kind: Any) -> None:
    judged, values = fitted(TAGS.astype(kind), LOGITS)
    assert (judged.hard, judged.columns) == ("binary-cross-entropy", 4)
    expected = functional.binary_cross_entropy_with_logits(
        torch.from_numpy(LOGITS), torch.from_numpy(TAGS).float()
    )
    assert loss_of(judged, LOGITS, values) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("form", ["logits", "probabilities"])
@pytest.mark.parametrize("kind", [np.int64, np.float32, bool])
def test_one_column_learns_yes_and_no(kind: Any, form: Any) -> None:
    logits, labels = LOGITS[:, :1], TAGS[:, 0]
    answer = logits if form == "logits" else 1 / (1 + np.exp(-logits))
    judged, values = fitted(labels.astype(kind), answer, Task("y", "binary", None, form))
    expected = functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits[:, 0]), torch.from_numpy(labels).float()
    )
    assert loss_of(judged, answer, values) == pytest.approx(float(expected), rel=1e-4)


def test_numbers_are_judged_by_the_square_or_by_huber() -> None:
    labels = (LOGITS + RNG.normal(size=LOGITS.shape)).astype(np.float32)
    judged, values = fitted(labels, LOGITS)
    assert (judged.hard, judged.columns) == ("mse", 4)
    assert loss_of(judged, LOGITS, values) == pytest.approx(((LOGITS - labels) ** 2).mean())
    labels[0, 0] = 1e4
    judged, values = fitted(labels, LOGITS, hard="huber")
    assert 0.1 < judged.threshold < 3, "one outlier does not move it"
    expected = functional.huber_loss(
        torch.from_numpy(LOGITS), torch.from_numpy(labels), delta=judged.threshold
    )
    assert loss_of(judged, LOGITS, values) == pytest.approx(float(expected), rel=1e-4)


def test_numbers_are_left_out_where_the_user_says_so() -> None:
    labels = LOGITS.round(1)
    labels[0, 1] = labels[3] = -999
    judged, values = fitted(labels, LOGITS, ignore=-999)
    told = labels != -999
    expected = ((LOGITS - labels) ** 2)[told].mean()
    assert loss_of(judged, LOGITS, values) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(DataError, match="all labels of the training data are -999"):
        fitted(np.full((6, 4), -999.0), LOGITS, ignore=-999)


def test_the_users_loss_holds_whatever_the_labels_look_like() -> None:
    judged, values = fitted(TAGS.astype(np.float32), LOGITS, hard="mse")
    assert loss_of(judged, LOGITS, values) == pytest.approx(((LOGITS - TAGS) ** 2).mean(), rel=1e-5)
    judged, _ = fitted(
        np.array([0, 1, 2, 3, 0, 1]), LOGITS, Task("y", "embedding", 1), hard="cross-entropy"
    )
    assert judged.task.kind == "classes"


def test_balanced_classes_weigh_the_same_in_sum() -> None:
    labels = np.array([0, 0, 0, 0, 2, 3])
    judged, values = fitted(labels, LOGITS, class_weights="balanced")
    assert judged.weights == pytest.approx([6 / (3 * 4), 0, 6 / 3, 6 / 3])
    weights = torch.tensor(judged.weights)
    expected = functional.cross_entropy(torch.from_numpy(LOGITS), torch.from_numpy(labels), weights)
    assert loss_of(judged, LOGITS, values) == pytest.approx(float(expected), rel=1e-5)


def test_balanced_labels_weigh_yes_and_no_the_same() -> None:
    judged, values = fitted(TAGS, LOGITS, class_weights="balanced")
    no, yes = np.array(judged.weights).reshape(2, 4)
    ones = TAGS.sum(0)
    assert yes * ones == pytest.approx(np.where(ones, 3, 0))
    assert no * (6 - ones) == pytest.approx(np.full(4, 3))
    each = functional.binary_cross_entropy_with_logits(
        torch.from_numpy(LOGITS), torch.from_numpy(TAGS).float(), reduction="none"
    ).numpy()
    weights = np.where(TAGS, yes, no)
    expected = (each * weights).sum() / weights.sum()
    assert loss_of(judged, LOGITS, values) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        (None, {}, DataError, "the training data has no labels; add an array 'labels'"),
        (np.array([0, 1, 2, 3, 4, 5]), {}, DataError, "output 'y' takes class numbers 0 to 3"),
        (np.zeros((6, 7)), {}, DataError, "fit no output"),
        (np.full(6, -100), {}, DataError, "from -100 to -100 fit no output"),
        (LOGITS, {"class_weights": "balanced"}, UsageError, "weighs classes, and the labels are"),
        (np.array(list("abcabc")), {"ignore": 2}, UsageError, "labels of type <U1 are no numbers"),
    ],
)
def test_labels_that_do_not_fit(labels: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        fitted(labels, LOGITS, **options)
