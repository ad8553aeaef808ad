"""How many of the layers that cost most are worth to be kept float beside integer ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphopt.numerics.sqnr import decibels
from graphopt.search.candidate import MARGIN, SAME_DB, Candidate, weighed

__all__ = ["FLOAT_SHARES", "Forecast", "worth_trying"]

FLOAT_SHARES = (0.04, 0.1, 0.2)
"""Shares of the layers, the most sensitive ones first, that mixed candidates keep float."""
_LEAST_GAIN_DB = 1.0
"""Layers are not kept float for less."""


@dataclass(frozen=True)
class Forecast:
    """What is known of the layers before any mixed candidate is made.

    Attributes:
        noise: Of each layer by label, the noisiest first; that of several adds up.
        work: MACs of each layer by label; empty where they are not known.
        float_bytes: What the weight of each layer takes more in floats than in integers.
    """

    noise: Mapping[str, float]
    work: Mapping[str, int]
    float_bytes: Mapping[str, int]

    def gain_db(self, count: int) -> float:
        """By how much the answers get closer with the first ``count`` layers in float."""
        levels = list(self.noise.values())
        return float(decibels(sum(levels), sum(levels[count:])))

    def cost(self, count: int, static: Candidate, base_bytes: int) -> float:
        """What the candidate with ``count`` layers in float would cost at best."""
        kept = list(self.noise)[:count]
        total = sum(self.work.values())
        share = sum(self.work.get(name, 0) for name in kept) / total if total else 0.0
        fast = static.time
        size = static.bytes + sum(self.float_bytes.get(name, 0) for name in kept)
        missing = max(0.0, static.missing_db - self.gain_db(count))
        return weighed(fast + (1 - fast) * share, size / base_bytes, missing)


def worth_trying(
    forecast: Forecast, static: Candidate, least: float, base_bytes: int, needed_db: float = 0.0
) -> tuple[list[int], str]:
    """How many layers the mixed candidates keep float that may be better than all others so far.

    Args:
        forecast: What is known of the layers.
        static: The candidate with all of them on integers, measured.
        least: What the cheapest candidate costs that may be chosen.
        base_bytes: Size of the cleaned model.
        needed_db: How many dB are missing to what was asked.

    Returns:
        Counts in ascending order, and a sentence where there are none.
    """
    counts = _counts(len(forecast.noise))
    worth, before = list[int](), 0.0
    for count in counts:
        gained = forecast.gain_db(count)
        margin = MARGIN if gained >= SAME_DB else -MARGIN  # as ``choose`` takes the more accurate
        pays = forecast.cost(count, static, base_bytes) < least + margin
        if pays and gained >= max(needed_db, before + _LEAST_GAIN_DB):
            worth.append(count)
            before = gained
    if worth or not counts:
        return worth, ""
    most = counts[-1]
    return [], (
        f"no candidate with sensitive layers in float: the {most} of {len(forecast.noise)} that "
        f"cost most would gain about {forecast.gain_db(most):.1f} dB, which does not pay"
    )


def _counts(layers: int) -> Sequence[int]:
    counts = sorted({max(1, round(share * layers)) for share in FLOAT_SHARES})
    return [count for count in counts if count < layers]
