"""What outputs mean to student and teacher."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.bridge.training.kinds import float_tasks, settled
from graphopt.errors import ModelError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.tasks.task import Task
from graphopt.testing import model_from_text

RAW = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32) * 3
CHANCES = np.exp(RAW) / np.exp(RAW).sum(1, keepdims=True)


def graph_of(end: str, name: str = "y") -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,6] x) => (float[N,5] {name}) {{ h = Gemm (x, V) {name} = {end} (h) }}"""
    return io.load(model_from_text(text, {"V": (6, 5)}))


def tasks_of(first: str, second: str, name: str = "y", **words: Task) -> tuple[Task, Task]:
    ends = {"Identity": RAW, "Softmax": CHANCES, "Sigmoid": 1 / (1 + np.exp(-RAW)), "Tanh": RAW}
    models = graph_of(first, name), graph_of(second, name)
    answers = {name: ends[first]}, {name: ends[second]}
    mine = float_tasks(models[0], [answers[0]], words)
    ours, theirs = settled(models, answers, mine)
    return ours[name], theirs[name]


@pytest.mark.parametrize(
    ("first", "second", "kind", "forms"),
    [
        ("Softmax", "Identity", "classes", ("probabilities", "logits")),
        ("Identity", "Softmax", "classes", ("logits", "probabilities")),
        ("Identity", "Sigmoid", "multi-label", ("logits", "probabilities")),
        ("Sigmoid", "Identity", "multi-label", ("probabilities", "logits")),
        ("Identity", "Identity", "regression", (None, None)),
        ("Tanh", "Tanh", "regression", (None, None)),
    ],
)
def test_what_is_not_clear_of_the_one_is_what_the_other_is(
    first: str, second: str, kind: str, forms: tuple[str | None, str | None]
) -> None:
    ours, theirs = tasks_of(first, second)
    assert (ours.kind, theirs.kind) == (kind, kind)
    assert (ours.form, theirs.form) == forms


def test_names_speak_only_where_the_end_does_not() -> None:
    ours, theirs = tasks_of("Softmax", "Identity", "probabilities")
    assert (ours.form, theirs.form) == ("probabilities", "logits")


def test_the_users_word_goes_for_both() -> None:
    ours, theirs = tasks_of("Identity", "Softmax", y=Task("y", "regression"))
    assert (ours.kind, theirs.kind) == ("regression", "regression")
    ours, theirs = tasks_of("Identity", "Sigmoid", y=Task("y", "classes"))
    assert (ours.kind, ours.axis, theirs.kind) == ("classes", 1, "classes")


def test_two_meanings_of_one_output_are_refused() -> None:
    with pytest.raises(ModelError, match=r"output 'logits' is class scores .* and scores of sev"):
        tasks_of("Identity", "Sigmoid", "logits")
