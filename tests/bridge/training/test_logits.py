"""Scores as logits, whatever they are written as."""

from __future__ import annotations

import pytest
import torch

from graphopt.bridge.training.logits import as_logits, in_form
from graphopt.tasks.task import FORMS, Form, Task, TaskKind


def written(logits: torch.Tensor, kind: TaskKind, form: Form) -> torch.Tensor:
    chances = logits.softmax(1) if kind == "classes" else logits.sigmoid()
    return {"logits": logits, "probabilities": chances, "log-probabilities": chances.log()}[form]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["classes", "multi-label", "binary"])
def test_every_form_gives_the_same_decisions_and_chances(kind: TaskKind, form: Form) -> None:
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3
    task = Task("y", kind, None if kind == "binary" else 1, form)
    found = as_logits(written(logits, kind, form), task)
    if kind == "classes":
        assert torch.allclose(found.softmax(-1), logits.movedim(1, -1).softmax(-1), atol=1e-6)
    else:
        assert torch.allclose(found, logits, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wanted", ["probabilities", "log-probabilities"])
@pytest.mark.parametrize("kind", ["classes", "multi-label"])
def test_a_form_becomes_another(kind: TaskKind, form: Form, wanted: Form) -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    found = in_form(written(logits, kind, form), Task("y", kind, 1, form), wanted)
    assert torch.allclose(found, written(logits, kind, wanted), atol=1e-5)


def test_numbers_stay_as_they_are() -> None:
    values = torch.tensor([[-1.0, 2.0]])
    assert torch.equal(as_logits(values, Task("y", "regression", 1)), values)
    assert torch.equal(in_form(values, Task("y", "regression", 1), None), values)


def test_chances_of_zero_and_one_stay_finite() -> None:
    ends = torch.tensor([[0.0, 1.0]])
    for kind in ("classes", "multi-label"):
        assert bool(as_logits(ends, Task("y", kind, 1, "probabilities")).isfinite().all())
