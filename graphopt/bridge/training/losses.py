"""What training lowers: distances between answers, and between answers and labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "binary_cross_entropy",
    "binary_divergence",
    "cosine",
    "cross_entropy",
    "divergence",
    "huber",
    "relative_square",
    "square",
]

_TINY = 1e-12


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of softened class distributions, times the square of the temperature.

    Args:
        student: Logits, classes on the last axis.
        teacher: Logits of the same shape.
        temperature: Divides both.

    Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015),
    section 2.
    """
    classes = student.shape[-1]
    mine = functional.log_softmax(student.reshape(-1, classes) / temperature, dim=-1)
    wanted = functional.log_softmax(teacher.reshape(-1, classes) / temperature, dim=-1)
    loss = functional.kl_div(mine, wanted, reduction="batchmean", log_target=True)
    return loss * temperature**2


def binary_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean KL divergence of softened yes-or-no chances, times the square of the temperature.

    Args:
        student: Logits of single decisions, of any shape.
        teacher: Logits of the same shape.
        temperature: Divides both.
    """
    mine, wanted = student / temperature, teacher / temperature
    yes = torch.sigmoid(wanted)
    gap = yes * (functional.logsigmoid(wanted) - functional.logsigmoid(mine))
    gap = gap + (1 - yes) * (functional.logsigmoid(-wanted) - functional.logsigmoid(-mine))
    return gap.mean() * temperature**2


def cosine(student: Tensor, teacher: Tensor, axis: int = -1) -> Tensor:
    """1 minus the mean cosine between vectors along an axis."""
    return 1 - functional.cosine_similarity(student, teacher, dim=axis).mean()


def relative_square(student: Tensor, teacher: Tensor, power: Tensor | float) -> Tensor:
    """Mean squared difference, as a share of the mean square that the teacher has in general.

    Args:
        student: Any values.
        teacher: Those wanted, of the same shape.
        power: Mean square of the teacher's values over some samples, one number or one that
            broadcasts against the values; the same for all batches, so that the parts of a batch
            add up to it.
    """
    share = torch.as_tensor(power, dtype=student.dtype, device=student.device).clamp_min(_TINY)
    return ((student - teacher).square() / share).mean()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each label: ``(...)``.

    Args:
        logits: ``(..., classes)``.
        labels: Class numbers, ``(...)``.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    found = functional.cross_entropy(rows, labels.reshape(-1).to(torch.int64), reduction="none")
    return found.reshape(labels.shape)


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each yes (1) or no (0), of the shape of both."""
    return functional.binary_cross_entropy_with_logits(
        logits, labels.to(logits.dtype), reduction="none"
    )


def square(answer: Tensor, labels: Tensor) -> Tensor:
    """Squared error of each number."""
    return (answer - labels.to(answer.dtype)).square()


def huber(answer: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Error of each number: half its square up to the threshold, linear beyond.

    Source: Huber, Robust Estimation of a Location Parameter (1964).
    """
    return functional.huber_loss(answer, labels.to(answer.dtype), reduction="none", delta=threshold)
