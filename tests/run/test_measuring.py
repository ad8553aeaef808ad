"""What a metric gets of the answers of several models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.observe.request import Rows
from graphopt.run.measuring import BATCH, MetricAnswers, feed_size, metric_answers
from graphopt.run.metrics import FunctionMetric, LabelMetric
from graphopt.run.quality import Metric
from graphopt.tasks.labels import fit_labels
from graphopt.tasks.task import Task

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((4, 3)).astype(np.float32)
RIGHT = SCORES.argmax(1)
LABELLED = LabelMetric(
    ("top1", "f1"),
    fit_labels(RIGHT, {"y": Task("y", "classes", 1, "logits")}, {"y": SCORES}),
)


def fed(held: MetricAnswers, model: int, parts: list[tuple[dict[str, Any], int]]) -> None:
    for number, (answer, real) in enumerate(parts):
        held.add(model, answer, Rows(real, max(2, real), first=number == 0))


def gathered(parts: list[tuple[dict[str, Any], int]], apart: frozenset[str]) -> list[Any]:
    """What a function gets as its first output."""
    got = list[Any]()

    def function(outputs: Any, labels: Array) -> float:
        got.append(outputs[0])
        return 0.0

    names = [list(parts[0][0])] * 2
    held = metric_answers(FunctionMetric("f", function, apart), names, RIGHT, None)
    for model in (0, 1):
        fed(held, model, parts)
    held.values()
    return got


def test_figures_are_those_of_each_model() -> None:
    outputs = [["a", "y"], ["a", "y"], ["b", "z"], ["only"], ["y"]]
    held = metric_answers(LABELLED, outputs, RIGHT, None)
    answers = [SCORES, -SCORES, SCORES, SCORES, SCORES[:, :2]]
    for model, (values, name) in enumerate(zip(answers, ["y", "y", "z", "only", "y"], strict=True)):
        fed(
            held,
            model,
            [({name: values[:2]}, 2), ({name: values[[2, 2]]}, 1), ({name: values[3:]}, 1)],
        )
    turned, renamed, alone, narrow = held.values()
    assert (turned.name, turned.before, turned.output) == ("top1", 100, "y")
    assert turned.after < 50
    assert [each.name for each in turned.beside] == ["f1"]
    assert renamed.after == alone.after == 100
    assert np.isnan(narrow.after)
    assert narrow.fall == np.inf


def test_each_model_decides_by_its_own_form_of_scores() -> None:
    logits = np.array([[-2.0], [-0.1], [0.2], [3.0]], np.float32)
    yes = (logits > 0).astype(np.int64)[:, 0]
    task = Task("y", "binary", None, "probabilities", other_form="logits")
    fitted = fit_labels(yes, {"y": task}, {"y": 1 / (1 + np.exp(-logits))})
    held = metric_answers(LabelMetric(("accuracy",), fitted), [["y"], ["y"]], yes, None)
    fed(held, 0, [({"y": 1 / (1 + np.exp(-logits))}, 4)])
    fed(held, 1, [({"y": logits}, 4)])
    (found,) = held.values()
    assert (found.before, found.after) == (100, 100)


@pytest.mark.parametrize(
    ("task", "most"),
    [
        (Task("y", "boxes", 1, free_rows=True, rows_axis=0), 1),
        (Task("y", "regression", free_rows=True), 1),
        (Task("y", "boxes", 2, free_rows=True, rows_axis=1), BATCH),
        (Task("y", "boxes", 1), BATCH),
    ],
)
def test_feeds_join_no_samples_whose_rows_come_as_one_list(task: Task, most: int) -> None:
    assert feed_size({"x": Task("x", "classes", 1), "y": task}, None) == most


@pytest.mark.parametrize(
    ("metric", "fall"),
    [
        (Metric("top1", 80, 77.5), 2.5),
        (Metric("mse", 1.0, 1.5, higher_is_better=False), 0.5),
        (Metric("mse", 1.0, float("nan"), higher_is_better=False), np.inf),
    ],
)
def test_a_fall_is_how_much_worse_it_got(metric: Metric, fall: float) -> None:
    assert metric.fall == fall


def test_a_reference_that_answers_otherwise_later_is_refused() -> None:
    held = metric_answers(LABELLED, [["y"], ["y"]], RIGHT, None)
    with pytest.raises(DataError, match=r"^metric 'top1': output 'y' is \[2, 2\], where one"):
        fed(held, 0, [({"y": SCORES[:2, :2]}, 2)])


def test_a_function_gets_one_array_where_rows_are_samples() -> None:
    parts = [({"y": SCORES[:2]}, 2), ({"y": SCORES[[2, 2]]}, 1), ({"y": SCORES[3:]}, 1)]
    for got in gathered(parts, frozenset()):
        assert (got == SCORES).all()


def test_a_function_gets_a_list_where_rows_depend_on_the_data() -> None:
    boxes = [RNG.random((n, 4)) for n in (3, 0, 1, 3)]
    parts = [({"y": each}, 1) for each in boxes]
    for apart in (frozenset({"y"}), frozenset[str]()):
        for got in gathered(parts, apart):
            assert [len(each) for each in got] == [3, 0, 1, 3]
    alike = [({"y": np.ones((1, 4))}, 1)] * 4
    assert isinstance(gathered(alike, frozenset({"y"}))[0], list)
    metric = FunctionMetric("f", lambda outputs, labels: 0.0, frozenset("y"))
    assert metric_answers(metric, [["y"]], RIGHT, None).batch == 1


def test_a_function_gets_sequences_sample_by_sample_and_texts() -> None:
    maps = [{0: 0.5}, {0: 0.1}, {1: 0.3}, {2: 0.2}]
    parts = [({"y": maps[:2]}, 2), ({"y": maps[2:3]}, 1), ({"y": maps[3:]}, 1)]
    assert gathered(parts, frozenset({"y"})) == [maps, maps]
    texts = np.array(["a", "b", "c", "d"], object)
    (got, _) = gathered([({"y": texts[:2]}, 2), ({"y": texts[2:]}, 2)], frozenset())
    assert got.tolist() == texts.tolist()
