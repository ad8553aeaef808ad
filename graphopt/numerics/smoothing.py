"""Moves the spread of activation channels into the weights, so that one scale fits them all.

A linear layer ``y = x W`` is the same as ``y = (x / s) (s W)`` with one factor ``s`` a channel of
``x``. Large channels of ``x`` shrink, and with them the step of its quantization grid; rows of
``W`` grow, and so may the steps of theirs. Source: Xiao et al. 2023, SmoothQuant, section 4; the
factors here are not powers of the ranges as there but those of least expected error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Activation", "Smoothing", "row_gain_db", "smooth"]

_LEVELS = 255
_CAPS = np.geomspace(1.0, 0.02, 33)[1:]


@dataclass(frozen=True)
class Activation:
    """What is known of the left operand of a linear layer.

    Attributes:
        low: Smallest value of the tensor.
        high: Largest value of the tensor.
        peaks: Largest absolute value of each channel, ``(in,)``.
        powers: Mean square of each channel, ``(in,)``.
    """

    low: float
    high: float
    peaks: NDArray[np.float64]
    powers: NDArray[np.float64]


@dataclass(frozen=True)
class Smoothing:
    """The best factors found.

    Attributes:
        factors: What the channels are divided by, ``(in,)``, at least 1; float32.
        before_db: Expected SQNR of the layer without smoothing.
        after_db: Expected SQNR with it.
    """

    factors: NDArray[np.float32]
    before_db: float
    after_db: float

    @property
    def gain_db(self) -> float:
        """How much the expected SQNR rises; 0 where it cannot."""
        return self.after_db - self.before_db if np.isfinite(self.before_db) else 0.0


def _error(
    activation: Activation,
    weight: NDArray[np.float32],
    squares: NDArray[np.float64],
    factors: NDArray[np.float64],
    qmax: int,
) -> float:
    """Expected squared error of ``x W``, summed over the outputs, when both are quantized.

    ``(range / 255)^2 / 12 * sum (s W)^2`` from the activation, whose rounding errors are uniform,
    plus ``sum_j E[x_j^2] / s_j^2 * sum_n step_n^2 / 12`` from the weight, whose column ``n`` has
    the step ``max_j |s_j W_jn| / qmax``. ``squares`` are those of the rows of ``W``, summed.
    """
    largest = float((activation.peaks / factors).max())
    width = max(min(activation.high, largest), 0.0) + max(min(-activation.low, largest), 0.0)
    step = width / _LEVELS
    from_activation = step**2 / 12 * float(squares @ factors**2)
    columns = np.abs(weight * factors.astype(np.float32)[:, None]).max(axis=0) / qmax
    power = float((activation.powers / factors**2).sum())
    return from_activation + power * float(np.square(columns, dtype=np.float64).sum()) / 12


def smooth(activation: Activation, weight: NDArray[np.float32], qmax: int = 127) -> Smoothing:
    """The factors ``s_j = max(1, peak_j / cap)`` whose cap has the least expected error.

    With the cap given, these are the smallest factors, hence those of least error from the weight,
    that bring every channel below it. Caps are tried down to 2 % of the largest peak.

    Args:
        activation: Of the left operand.
        weight: ``(in, out)``; several layers that read the same tensor side by side.
        qmax: Largest weight code.

    >>> x = Activation(-1.0, 60.0, np.array([60.0, 1.0]), np.array([9.0, 0.1]))
    >>> smooth(x, np.array([[0.01], [1.0]], np.float32)).factors.round(1)
    array([50.,  1.], dtype=float32)
    """
    squares = np.einsum("jn,jn->j", weight, weight, dtype=np.float64)
    factors = np.ones(len(weight))
    unsmoothed = least = _error(activation, weight, squares, factors, qmax)
    peak = float(activation.peaks.max(initial=0.0))
    for cap in peak * _CAPS if peak > 0 else ():
        tried = np.maximum(1.0, activation.peaks / cap)
        error = _error(activation, weight, squares, tried, qmax)
        if error < least:
            least, factors = error, tried
    signal = float(activation.powers @ squares)  # of uncorrelated channels
    return Smoothing(
        factors.astype(np.float32), _decibels(signal, unsmoothed), _decibels(signal, least)
    )


def row_gain_db(widths: NDArray[np.float64], weight: NDArray[np.float32], qmax: int = 127) -> float:
    """How much the SQNR of a layer rises if each row of its input has a grid of its own, dB.

    The mean over the rows of each row's gain: what reads a row, such as a normalization, often
    looks at it alone. The error of a row from the activation is ``width^2 / 255^2 / 12`` for each
    value; that from the weight, ``step^2 / 12``, stays and bounds what is gained.

    Args:
        widths: For each row the squares of the width of a grid for the whole tensor and of one of
            its own, over the mean square of the row: ``(rows, 2)``.
        weight: ``(in, out)``.
        qmax: Largest weight code.

    >>> round(row_gain_db(np.array([[400.0, 4.0]]), np.eye(2, dtype=np.float32), 10**6))
    20
    """
    power = float(np.square(weight, dtype=np.float64).mean())
    if not len(widths) or power == 0:
        return 0.0
    steps = np.abs(weight).max(axis=0).astype(np.float64) / qmax
    stays = float(np.square(steps).mean()) / power
    whole, row = (widths / _LEVELS**2 + stays).T
    return float(10 * np.log10(whole / row).mean())


def _decibels(signal: float, error: float) -> float:
    if error <= 0 or signal <= 0:
        return float("inf")
    return float(10 * np.log10(signal / error))
