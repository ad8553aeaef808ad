"""Losses against their formulas in numpy and scipy, and their gradients against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, rel_entr, softmax

from graphopt.bridge.training import losses


def pair(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(*shape, generator=generator, dtype=torch.float64),
        torch.randn(*shape, generator=generator, dtype=torch.float64) * 3,
    )


def arrays(*tensors: torch.Tensor) -> Any:
    return [tensor.detach().numpy() for tensor in tensors]


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(2, 9), st.floats(0.5, 8), st.integers(0, 99))
def test_divergence_is_kl_of_softened_classes(
    rows: int, classes: int, temperature: float, seed: int
) -> None:
    student, teacher = pair(rows, classes, seed=seed)
    s, t = arrays(student, teacher)
    wanted, found = softmax(t / temperature, -1), softmax(s / temperature, -1)
    expected = rel_entr(wanted, found).sum(-1).mean() * temperature**2
    assert float(losses.divergence(student, teacher, temperature)) == pytest.approx(expected)


def test_divergence_is_the_mean_over_all_but_the_last_axis() -> None:
    student, teacher = pair(2, 3, 5)
    rows = [
        losses.divergence(student[i, j], teacher[i, j], 2.0) for i in range(2) for j in range(3)
    ]
    assert float(losses.divergence(student, teacher, 2.0)) == pytest.approx(
        float(torch.stack(rows).mean())
    )


def test_binary_divergence_is_kl_of_each_softened_chance() -> None:
    student, teacher = pair(4, 3)
    s, t = (expit(each / 2.0) for each in arrays(student, teacher))
    expected = (rel_entr(t, s) + rel_entr(1 - t, 1 - s)).mean() * 4
    assert float(losses.binary_divergence(student, teacher, 2.0)) == pytest.approx(expected)
    assert float(losses.binary_divergence(teacher, teacher, 2.0)) == pytest.approx(0)


def test_cosine_is_one_minus_the_mean_cosine() -> None:
    student, teacher = pair(4, 3, 6)
    s, t = arrays(student, teacher)
    norms = np.linalg.norm(s, axis=-1) * np.linalg.norm(t, axis=-1)
    assert float(losses.cosine(student, teacher)) == pytest.approx(
        1 - ((s * t).sum(-1) / norms).mean()
    )
    assert float(losses.cosine(teacher * 5, teacher)) == pytest.approx(0)
    turned = losses.cosine(student.movedim(-1, 1), teacher.movedim(-1, 1), axis=1)
    assert float(turned) == pytest.approx(float(losses.cosine(student, teacher)))


def test_relative_square_is_a_share_of_a_power_that_stays() -> None:
    student, teacher = pair(6, 5)
    s, t = arrays(student, teacher)
    assert float(losses.relative_square(student, teacher, 4.0)) == pytest.approx(
        ((s - t) ** 2).mean() / 4
    )
    halves = [
        losses.relative_square(student[rows], teacher[rows], 4.0) for rows in ([0, 1, 2], [3, 4, 5])
    ]
    assert float(torch.stack(halves).mean()) == pytest.approx(
        float(losses.relative_square(student, teacher, 4.0))
    )


def test_each_column_may_have_a_power_of_its_own() -> None:
    student, teacher = pair(6, 2)
    s, t = arrays(student, teacher)
    found = losses.relative_square(student, teacher, torch.tensor([4.0, 0.25]))
    assert float(found) == pytest.approx(((s - t) ** 2 / [4, 0.25]).mean())


def test_a_teacher_that_is_all_zeros_divides_by_no_zero() -> None:
    assert float(losses.relative_square(torch.zeros(3), torch.zeros(3), 0.0)) == 0


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_cross_entropy_picks_the_class(kind: torch.dtype) -> None:
    logits, _ = pair(4, 3)
    labels = torch.tensor([0, 2, 1, 1], dtype=kind)
    expected = -log_softmax(logits.numpy(), -1)[range(4), labels.numpy()]
    assert losses.cross_entropy(logits, labels).numpy() == pytest.approx(expected)
    both = losses.cross_entropy(logits.reshape(2, 2, 3), labels.reshape(2, 2))
    assert both.numpy() == pytest.approx(expected.reshape(2, 2))


def test_binary_cross_entropy_takes_yes_and_no() -> None:
    logits, _ = pair(4, 3)
    labels = torch.arange(12).reshape(4, 3) % 2
    chances = expit(logits.numpy())
    expected = -np.log(np.where(labels.numpy(), chances, 1 - chances))
    assert losses.binary_cross_entropy(logits, labels).numpy() == pytest.approx(expected)


def test_huber_is_half_the_square_and_linear_beyond() -> None:
    found = losses.huber(torch.tensor([0.0, 1.0, 5.0]), torch.zeros(3), 2.0)
    assert found.tolist() == [0, 0.5, 2.0 * (5 - 1)]


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: losses.divergence(s, t, 4.0),
        losses.cosine,
        lambda s, t: losses.relative_square(s, t, 2.5),
        lambda s, t: losses.cross_entropy(s, t.argmax(-1)).mean(),
        lambda s, t: losses.binary_cross_entropy(s, t > 0).mean(),
        lambda s, t: losses.binary_divergence(s, t, 4.0),
        lambda s, t: losses.huber(s, t, 0.5).mean(),
    ],
)
def test_gradients_are_those_of_the_formula(loss: Any) -> None:
    student, teacher = pair(3, 4)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)
