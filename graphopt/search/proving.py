"""The chosen form is proven before it is taken; what does not hold gives way to the next best."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.facts.quantized import has_fixed_ranges
from graphopt.run.causes import likely_causes
from graphopt.run.floor import FLOOR_DB, held_outputs, too_far
from graphopt.run.limits import broken_by
from graphopt.run.means import Means
from graphopt.run.verify import Verified, verify
from graphopt.search.candidate import Candidate, choose
from graphopt.targets import elsewhere

__all__ = ["first_proven", "told_causes"]

_MUCH_SLOWER = 0.05
"""What is slower by less is told, but turns no choice: two measurements differ by that."""


def first_proven(
    base: Candidate, tried: Sequence[Candidate], means: Means
) -> tuple[Candidate, Verified | None]:
    """The best candidate that holds on all samples and by the clock, against the model as it came.

    What does not hold gets its ``problem``; the cleaned model is taken where nothing else holds.

    Args:
        base: The cleaned model.
        tried: The others, measured.
        means: What to measure with.

    Returns:
        The candidate, and what it was measured to be; None of the cleaned model.

    Raises:
        ModelError: onnxruntime cannot run a candidate.
        DataError: The metric cannot be computed.
    """
    while (chosen := choose(base, tried)) is not base:
        verified = verify(chosen.stage, means)
        chosen.problem = _disproved(verified, means)
        if not chosen.problem:
            return chosen, verified
        chosen.quality = verified.quality
    return base, None


def _disproved(found: Verified, means: Means) -> str:
    """Why a candidate that was chosen by few samples does not hold on all; empty where it does."""
    quality = found.quality
    where = f"on all {quality.samples} samples ({quality.source})"
    broken = broken_by(quality, means.limits)
    if broken is not None:
        return f"{where}: {broken}"
    held = held_outputs(quality, means)
    if fault := too_far(quality, means.limits.min_sqnr_db, held):
        return f"{where}: {fault}"
    fresh = {} if quality.fresh is None else quality.fresh.sqnr_db
    known = [value for name, value in fresh.items() if value is not None and name not in held]
    least = min(known, default=None)
    if means.limits.min_sqnr_db is None and least is not None and least < FLOOR_DB:
        return f"fresh samples may give {least:.1f} dB, at least {FLOOR_DB:g} dB needed"
    ratio = found.after.ratio
    if elsewhere(means.target):
        return ""
    if ratio.slower and ratio.median > 1 + _MUCH_SLOWER:
        return "slower than the model as it came"
    return ""


def told_causes(tried: Sequence[Candidate], means: Means) -> list[str]:
    """Why candidates with fixed ranges answer badly, where that can be told; a sentence each."""
    for item in tried:
        if item.quality is None or not item.problem or not too_far(item.quality, None):
            continue
        if not item.quality.evidence or not has_fixed_ranges(item.stage.graph):
            continue
        causes = likely_causes(item.stage, means)
        if causes:
            return [f"{item.name} answers badly: {item.problem}; the likely cause: {causes[0]}"]
    return []
