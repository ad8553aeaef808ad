"""What training lowers: distances between answers, and between answers and labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["cosine", "cross_entropy", "divergence", "relative_square"]

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


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 minus the mean cosine between vectors on the last axis."""
    return 1 - functional.cosine_similarity(student, teacher, dim=-1).mean()


def relative_square(student: Tensor, teacher: Tensor, power: float) -> Tensor:
    """Mean squared difference, as a share of the mean square that the teacher has in general.

    Args:
        student: Any values.
        teacher: Those wanted, of the same shape.
        power: Mean square of the teacher's values over some samples; the same for all batches, so
            that the parts of a batch add up to it.
    """
    return (student - teacher).square().mean() / max(power, _TINY)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits ``(samples, classes)`` against class numbers ``(samples,)``."""
    return functional.cross_entropy(logits, labels.to(torch.int64))
