"""What a pass can ask about the tensors of a running model: requests as values.

Each request is hashable and names one tensor of the main graph; the run that serves them gives
back a mapping from request to answer. The type of each answer stands in the request's docstring.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ChannelAbsMax", "ChannelMean", "HistogramOf", "MinMax", "Statistic"]


@dataclass(frozen=True)
class MinMax:
    """Smallest and largest value over all samples.

    Answer: ``(low, high)``, two floats.
    """

    tensor: str


@dataclass(frozen=True)
class HistogramOf:
    """Distribution of the values over all samples.

    Answer: ``graphopt.numerics.ranges.Histogram`` whose ends are the exact minimum and maximum.
    """

    tensor: str
    bins: int = 2048


@dataclass(frozen=True)
class ChannelMean:
    """Mean over everything but ``axis``.

    Answer: float64 array ``(channels,)``.
    """

    tensor: str
    axis: int = 1


@dataclass(frozen=True)
class ChannelAbsMax:
    """Largest absolute value over everything but ``axis``.

    Answer: float32 array ``(channels,)``.
    """

    tensor: str
    axis: int = 1


Statistic = MinMax | HistogramOf | ChannelMean | ChannelAbsMax
