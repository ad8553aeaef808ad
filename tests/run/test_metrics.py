"""What is measured with labels: names, functions, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from graphopt.data import open_data
from graphopt.data.samples import Samples
from graphopt.errors import DataError, Need, UsageError
from graphopt.graph import io
from graphopt.graph.tensors import Array
from graphopt.run.metrics import (
    FunctionMetric,
    LabelMetric,
    SeenAnswers,
    find_metric,
)
from graphopt.tasks.task import Task
from graphopt.testing import model_from_text

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((6, 3)).astype(np.float32)
TASKS = {"y": Task("y", "classes", 1, "logits")}


def constant(outputs: Sequence[object], labels: Array) -> float:
    return 0.0


def samples(labels: Array | None) -> Samples:
    graph = io.load(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 13]>
            g (float[n,3] x) => (float[n,3] y) { y = Relu (x) }"""
        )
    )
    given = {} if labels is None else {"labels": labels}
    return open_data({"x": SCORES, **given}, graph)


def found(metric: object, labels: Array | None) -> object:
    return find_metric(metric, samples(labels), TASKS, SeenAnswers([({"y": SCORES}, 6)]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        (None, ("top1",)),
        ("top1", ("top1",)),
        ("f1", ("f1", "top1")),
        ("recall", ("recall", "top1")),
    ],
)
def test_a_name_decides_which_figure_counts(metric: str | None, names: tuple[str, ...]) -> None:
    labels = np.array([0, 1, 2, 2, 1, 0])
    measured = found(metric, labels)
    assert isinstance(measured, LabelMetric)
    assert measured.names == names
    assert measured.name == names[0]


@pytest.mark.parametrize(
    ("metric", "labels", "error", "words"),
    [
        ("top2", SCORES, UsageError, r"unknown metric 'top2'; did you mean 'top1'\?; or module"),
        ("top1", None, DataError, "a metric needs labels, and the evaluation samples"),
        (
            "mse",
            np.array([0, 1, 2, 2, 1, 0]),
            DataError,
            r"metric 'mse' does not fit the labels, read as class numbers of output 'y': class "
            r"scores \(logits\) along axis 1; what fits: top1, accuracy, f1",
        ),
        ("top1", np.arange(6), DataError, r"labels of shape \[6\], int64 from 0 to 5 fit no"),
        (None, np.arange(6), DataError, "takes class numbers 0 to 2 of shape"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured(
    metric: str | None, labels: Array | None, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        found(metric, labels)


def test_without_labels_nothing_is_asked() -> None:
    assert found(None, None) is None
    with pytest.raises(UsageError) as caught:
        find_metric(lambda outputs, labels: 0.0, None, TASKS, None)
    assert caught.value.needs == (Need.EVALUATION,)


def test_a_function_gets_outputs_of_any_size_apart() -> None:
    tasks = {
        "boxes": Task("boxes", "boxes", 1, free_rows=True),
        "maps": Task("maps", "container"),
        **TASKS,
    }
    metric = find_metric(constant, samples(SCORES), tasks, None)
    assert metric == FunctionMetric("constant", constant, frozenset({"boxes", "maps"}))


def test_labels_are_told_of() -> None:
    measured = found(None, np.array(["ant", "bee", "cow", "ant", "bee", "cow"]))
    assert isinstance(measured, LabelMetric)
    assert measured.notes == ["labels: 3 classes in sorted order: ant, bee, cow"]
    padded = found(None, np.array([0, 1, 2, -100, -100, -100]))
    assert isinstance(padded, LabelMetric)
    assert padded.notes == ["labels: 50.0% say that they do not count, and are left out"]
