"""Forms with fewer channels: what a limit of the user's allows, alone and in front of integers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from graphopt.contract.settings import Limits
from graphopt.contract.spec import format_passes, parse_passes
from graphopt.errors import DataError, LimitError, ModelError, PassError
from graphopt.run.means import Means
from graphopt.search.candidate import Candidate, choose
from graphopt.search.proposals import AFTER, Proposal
from graphopt.search.trials import attempt, weigh

__all__ = ["form_behind", "pruned_alone", "pruned_forms"]

logger = logging.getLogger(__name__)

_FIRST = 0.7
_NEXT = {
    (0.7, True): 0.5,
    (0.5, True): 0.35,
    (0.7, False): 0.85,
    (0.5, False): 0.6,
    (0.35, False): 0.42,
}
"""Shares of the MACs: which one is tried next, by whether the last one held the limits."""
_REMOVE = "prune-channels{{macs={share:g}}},reconstruct-weights"


def pruned_forms(
    base: Candidate, lifted: Candidate, tried: Sequence[Candidate], means: Means
) -> tuple[list[Candidate], list[str]]:
    """The model with fewer channels, at shares of its MACs that near what the limit allows.

    Each is tried alone and, where that is the best form so far, on integers. Without a limit of the
    user's nothing says how much may be lost, and none is tried.

    Args:
        base: The cleaned model.
        lifted: Where trials start.
        tried: Those before, measured.
        means: What to measure with.

    Returns:
        The candidates, measured, and why there are no more of them.
    """
    if not base.limited or means.judge is None or means.calibration is None:
        return [], []
    behind = form_behind(choose(base, tried), lifted)
    found = list[Candidate]()
    share: float | None = _FIRST
    while share is not None:
        if means.deadline.over:
            return found, [means.deadline.told(f"not tried: {_named(share)}")]
        try:
            new = _of_share(share, lifted, behind, means)
        except (PassError, DataError, ModelError, LimitError) as err:
            return found, [f"no candidate with fewer channels: {err}"]
        if new[0].quality is None:
            return found, [f"no candidate with fewer channels: {new[0].problem}"]
        if any(new[0].name == item.name for item in found):
            return found, [f"no candidate with less than {new[0].name}: no more can go"]
        weigh(base, new, means)
        found += new
        share = _NEXT.get((share, any(not item.problem for item in new)))
    return found, []


def _reached(made: Candidate, lifted: Candidate, share: float) -> float:
    """The share of the MACs that is left, which the one asked for may be out of reach of."""
    before, after = lifted.stage.macs, made.stage.macs
    return share if not before or after is None else after / before


def _named(share: float) -> str:
    return f"channels at {share:.0%} of the MACs"


def form_behind(best: Candidate, lifted: Candidate) -> Proposal | None:
    """The passes of the best form so far, to be put behind; None where it is the model itself."""
    passes = best.passes[len(lifted.passes) :]
    if best.kind in ("float", "float32") or not passes:
        return None
    return Proposal("pruned", best.name, format_passes(passes) + AFTER)


def pruned_alone(
    share: float, lifted: Candidate, tried: Sequence[Candidate], means: Means
) -> Candidate:
    """The model with a share of its MACs, as it was tried already or else made.

    Args:
        share: What should be left.
        lifted: Where trials start.
        tried: Forms with fewer channels.
        means: What to measure with.

    Raises:
        GraphoptError: As ``attempt``.
    """
    spec, name = _REMOVE.format(share=share) + AFTER, _named(share)
    removal = parse_passes(spec)[0]
    for item in tried:
        if removal in item.passes and not any(p.name.startswith("quantize") for p in item.passes):
            return item
    logger.info("one more form: %s", name)
    made = attempt(lifted, means, Proposal("pruned", name, spec))
    made.name = _named(_reached(made, lifted, share))
    return made


def _of_share(
    share: float, lifted: Candidate, behind: Proposal | None, means: Means
) -> list[Candidate]:
    """The trials at one share of the MACs: channels alone, and the best form so far of these.

    Raises:
        GraphoptError: As ``attempt``.
    """
    trial = replace(means, limits=Limits())
    alone = pruned_alone(share, lifted, [], trial)
    name = alone.name
    if behind is None or alone.quality is None:
        return [alone]
    logger.info("one more form: %s, %s", name, behind.name)
    both = attempt(alone, trial, replace(behind, name=f"{name}, {behind.name}"))
    return [alone, replace(both, kind="pruned", name=f"{name}, {behind.name}")]
