"""Outputs that two models write otherwise."""

from __future__ import annotations

import pytest

from graphopt.tasks.apart import forms_apart
from graphopt.tasks.task import Task

LOGITS = Task("y", "classes", 1, "logits")
SHARES = Task("y", "classes", 1, "probabilities")
SUMS = Task("y", "regression", 1, sums=True)
NUMBERS = Task("y", "regression", 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (LOGITS, SHARES, "'y' holds logits of the student and probabilities of the teacher"),
        (SHARES, LOGITS, "'y' holds probabilities of the student and logits of the teacher"),
        (SUMS, SHARES, "'y' holds logits of the student and probabilities of the teacher"),
        (LOGITS, LOGITS, ""),
        (SUMS, LOGITS, ""),
        (SUMS, SUMS, ""),
        (NUMBERS, SHARES, ""),
    ],
)
def test_forms_that_differ_are_told(ours: Task, theirs: Task, words: str) -> None:
    told = forms_apart({"y": ours, "z": LOGITS}, {"y": theirs})
    assert len(told) == bool(words)
    assert all(words in each for each in told)
