"""How much of what limits allow is used up, and how far figures of some samples may be off."""

from __future__ import annotations

import math

from graphopt.contract.settings import Limits
from graphopt.run.quality import Quality

__all__ = ["SHARES_RIGHT", "agreement_error", "drop_error", "used_by"]

SHARES_RIGHT = ("top1", "accuracy")
"""Metrics that are the share of decisions that are right, in percent."""


def drop_error(quality: Quality) -> float | None:
    """Standard error of what a metric fell by, in its unit; None where it cannot be told.

    Only decisions that differ between the two models count for one or the other: of n samples of
    which a share p is decided differently it is at most sqrt(p / n).
    """
    metric = quality.metric
    if metric is None or metric.name not in SHARES_RIGHT or not quality.samples:
        return None
    output = quality.outputs.get(metric.output)
    if output is None or output.agreement is None:
        return None
    return 100 * math.sqrt((1 - _likely(output.agreement, quality.samples)) / quality.samples)


def agreement_error(quality: Quality) -> float | None:
    """Standard error of the least share of same decisions, in percent: that of a binomial."""
    if quality.least_agreement is None or not quality.samples:
        return None
    same = _likely(quality.least_agreement, quality.samples)
    return 100 * math.sqrt(same * (1 - same) / quality.samples)


def _likely(percent: float, samples: int) -> float:
    """A share as samples let expect it of others: where all of them agree, not all of those will.

    Source: Laplace's rule of succession.
    """
    return (samples * percent / 100 + 1) / (samples + 2)


def used_by(quality: Quality, limits: Limits) -> float:
    """How much of what limits allow a form takes, one standard error with it; 1 is all of it.

    Of an SQNR it is the share of the noise, of outputs that hold numbers. A metric or decisions
    that cannot be measured take all and more.

    Args:
        quality: Of the form, on the samples by which it was made to come near the limits.
        limits: The user's; at least one.
    """
    parts = list[float]()
    if limits.max_drop is not None:
        fall = math.inf if quality.metric is None else quality.metric.fall
        parts.append(_share(fall + (drop_error(quality) or 0.0), limits.max_drop))
    if limits.min_agreement is not None:
        agreement = quality.least_agreement
        lost = (
            math.inf if agreement is None else 100 - agreement + (agreement_error(quality) or 0.0)
        )
        parts.append(_share(lost, 100 - limits.min_agreement))
    if limits.min_sqnr_db is not None:
        least = quality.least_db
        parts.append(0.0 if least is None else 10 ** ((limits.min_sqnr_db - least) / 10))
    return max(parts)


def _share(lost: float, allowed: float) -> float:
    if lost <= 0:
        return 0.0
    return lost / allowed if allowed > 0 else math.inf
