"""Outputs that two models write otherwise: told, and compared in one form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

from graphopt.observe.request import Rows
from graphopt.tasks.apart import as_probabilities, in_two_forms, of_the_other, told_of_forms
from graphopt.tasks.compare import Numbers, Sampling
from graphopt.tasks.task import Task

LOGITS = Task("y", "classes", 1, "logits")
SHARES = Task("y", "classes", 1, "probabilities")
SUMS = Task("y", "regression", 1, sums=True)
NUMBERS = Task("y", "regression", 1)
VALUES = np.random.default_rng(0).standard_normal((6, 4, 3)) * 3


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        (SHARES, LOGITS, "class scores (probabilities against logits) along axis 1"),
        (LOGITS, SHARES, "class scores (logits against probabilities) along axis 1"),
        (SHARES, SUMS, "class scores (probabilities against logits) along axis 1"),
        (SUMS, SHARES, "class scores (logits against probabilities) along axis 1"),
        (LOGITS, LOGITS, str(LOGITS)),
        (LOGITS, SUMS, str(LOGITS)),
        (SUMS, SUMS, str(SUMS)),
        (SHARES, NUMBERS, str(SHARES)),
        (replace(SHARES, free_rows=True), LOGITS, str(replace(SHARES, free_rows=True))),
    ],
)
def test_forms_that_differ_are_in_the_reading(theirs: Task, ours: Task, words: str) -> None:
    found = in_two_forms({"y": theirs, "z": LOGITS}, {"y": ours})
    assert str(found["y"]) == words
    assert found["z"] == LOGITS


def test_the_reading_of_the_other_has_its_form() -> None:
    tasks = in_two_forms({"y": SHARES, "z": LOGITS}, {"y": LOGITS, "z": LOGITS})
    both = tasks["y"]
    assert of_the_other(both) == LOGITS
    assert of_the_other(LOGITS) == LOGITS
    assert told_of_forms(tasks, "A", "B") == [
        "output 'y' holds probabilities of A and logits of B: both are compared as probabilities"
    ]


@pytest.mark.parametrize(
    ("kind", "form", "expected"),
    [
        ("classes", "logits", softmax(VALUES, axis=1)),
        ("classes", "log-probabilities", np.exp(VALUES)),
        ("classes", "probabilities", VALUES),
        ("binary", "logits", expit(VALUES)),
        ("multi-label", "logits", expit(VALUES)),
        ("multi-label", "probabilities", VALUES),
    ],
)
def test_probabilities_of_every_form(kind: Any, form: Any, expected: NDArray[np.float64]) -> None:
    found = as_probabilities(VALUES.astype(np.float32), Task("y", kind, 1, form))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("written", [lambda x: x, lambda x: log_softmax(x, axis=1)])
@pytest.mark.parametrize("turned", [False, True])
def test_scores_in_two_forms_are_compared_as_probabilities(written: Any, turned: bool) -> None:
    form: Any = "logits" if written(VALUES) is VALUES else "log-probabilities"
    task = replace(SHARES, other_form=form)
    pair = softmax(VALUES, axis=1), written(VALUES)
    if turned:
        task, pair = replace(LOGITS, form=form, other_form="probabilities"), pair[::-1]
    found = _compared(task, *pair)
    assert found.sqnr_db is not None
    assert found.sqnr_db > 250
    assert found.agreement == 100


def test_each_has_its_own_threshold() -> None:
    logits = np.array([[-2.0], [-0.1], [0.2], [3.0]])
    task = Task("y", "binary", None, "probabilities", other_form="logits")
    assert _compared(task, expit(logits), logits).agreement == 100
    assert _compared(task, expit(logits), logits - 0.5).agreement == 75


def _compared(task: Task, right: Any, answer: Any) -> Any:
    comparator = Numbers(task, Sampling())
    rows = Rows(len(right), len(right), first=True)
    comparator.add({"y": right}, {"y": answer}, rows)
    comparator.add_last({"y": right}, {"y": answer}, rows, 8)
    quality = comparator.quality()
    if quality.agreement == 100:
        assert quality.after_steps_db is not None
        assert quality.after_steps_db > 250
    return quality
