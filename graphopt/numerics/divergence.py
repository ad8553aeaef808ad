"""How far answers are from others, smoothly: what a small change does can be measured by it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

__all__ = ["class_divergence", "relative_error"]

_LEAST_CHANCE = 1e-12


def class_divergence(
    wanted: NDArray[Any],
    given: NDArray[Any],
    axis: int,
    temperature: float = 4.0,
    *,
    chances: bool = False,
) -> float:
    """Mean KL divergence of softened classes, times the square of the temperature.

    Softened, scores of all classes count and not the first alone. Never negative.

    >>> class_divergence(np.array([[1.0, 2.0]]), np.array([[2.0, 3.0]]), 1)
    0.0

    Args:
        wanted: Logits, or chances, with the classes along ``axis``.
        given: The same of another model.
        axis: Of the classes.
        temperature: Divides logits.
        chances: They are probabilities.

    Source: Hinton, Vinyals and Dean 2015, Distilling the Knowledge in a Neural Network, section 2.
    """
    logits = [np.asarray(each, np.float64) for each in (wanted, given)]
    if chances:
        logits = [np.log(np.maximum(each, _LEAST_CHANCE)) for each in logits]
    first, second = (log_softmax(each / temperature, axis=axis) for each in logits)
    apart = (np.exp(first) * (first - second)).sum(axis=axis)
    return max(0.0, float(apart.mean()) * temperature**2) if apart.size else 0.0


def relative_error(wanted: NDArray[Any], given: NDArray[Any]) -> float:
    """Sum of squared differences over that of squares; 0 where both are nothing.

    >>> relative_error(np.array([3.0, 4.0]), np.array([3.0, 5.0]))
    0.04
    """
    first = np.asarray(wanted, np.float64)
    apart = float(((first - given) ** 2).sum())
    energy = float((first**2).sum())
    return apart / energy if energy else float(apart > 0)
