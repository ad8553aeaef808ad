"""Forms with fewer channels: what a limit of the user's allows, alone and in front of integers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from graphopt.contract.settings import Limits
from graphopt.contract.spec import format_passes, parse_passes
from graphopt.errors import DataError, LimitError, ModelError, PassError
from graphopt.facts.form import model_form
from graphopt.run.means import Means
from graphopt.search.candidate import Candidate, choose
from graphopt.search.nearing import Nearing
from graphopt.search.proposals import AFTER, Proposal
from graphopt.search.trials import attempt, weigh

__all__ = ["form_behind", "pruned_alone", "pruned_forms", "removal_at"]

logger = logging.getLogger(__name__)

_REMOVE = "prune-channels{{latency={share:g},form={form}}}"
_REPAIR = "reconstruct-weights"


def pruned_forms(
    base: Candidate, lifted: Candidate, tried: Sequence[Candidate], means: Means
) -> tuple[list[Candidate], list[str]]:
    """The model with fewer channels, at shares of its time that near what the limit allows.

    The widths are those that pay in the form in the end, in front of whose passes they are tried;
    the best of them is tried alone as well. Without a limit of the user's nothing says how much
    may be lost, and none is tried.

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
    found, alone = list[Candidate](), dict[str, Candidate]()
    near, messages = Nearing(), list[str]()
    while (share := near.share) is not None:
        if means.deadline.over:
            messages.append(means.deadline.told(f"not tried: {_asked(share)}"))
            break
        try:
            first, made = _of_share(share, lifted, behind, means)
        except (PassError, DataError, ModelError, LimitError) as err:
            messages.append(f"no candidate with fewer channels: {err}")
            break
        if made.quality is None:
            messages.append(f"no candidate with fewer channels: {made.problem}")
            break
        same = next((item for item in found if item.name == made.name), None)
        if same is None:
            weigh(base, [made], means)
            found.append(made)
            alone[made.name] = first
        elif not same.problem:
            messages.append(f"no candidate with less than {made.name}: no more can go")
            break
        near.tell(not (same or made).problem, (same or made).used)
    held = [item for item in found if not item.problem]
    if behind is not None and held:
        best = alone[min(held, key=lambda item: item.cost(base.bytes)).name]
        weigh(base, [best], means)
        found.insert(0, best)
    return found, messages


def _reached(made: Candidate, lifted: Candidate) -> float | None:
    """The share of the MACs that is left; None where they are not known."""
    before, after = lifted.stage.macs, made.stage.macs
    return None if not before or after is None else after / before


def _asked(share: float) -> str:
    return f"channels at {share:.0%} of the time"


def form_behind(best: Candidate, lifted: Candidate) -> Proposal | None:
    """The passes of the best form so far, to be put behind; None where it is the model itself."""
    passes = best.passes[len(lifted.passes) :]
    if best.kind in ("float", "float32") or not passes:
        return None
    integers = model_form(best.stage.graph).quantized
    return Proposal("pruned", best.name, format_passes(passes) + AFTER, integers)


def removal_at(share: float, behind: Proposal | None) -> str:
    """The pass that leaves a share of the time of the form in the end, as a spec.

    Widths that pay on integers are not those that pay in floats.
    """
    integers = behind is not None and behind.integers
    return _REMOVE.format(share=share, form="int8" if integers else "float")


def pruned_alone(
    removal: str, lifted: Candidate, tried: Sequence[Candidate], means: Means
) -> Candidate:
    """The model with fewer channels, repaired, as it was tried already or else made.

    Args:
        removal: The pass that removes them, as a spec.
        lifted: Where trials start.
        tried: Forms with fewer channels.
        means: What to measure with.

    Raises:
        GraphoptError: As ``attempt``.
    """
    (removes,) = parse_passes(removal)
    for item in tried:
        if removes in item.passes and not any(p.quantizes for p in item.passes):
            return item
    made = attempt(lifted, means, Proposal("pruned", removal, f"{removal},{_REPAIR}{AFTER}"))
    left = _reached(made, lifted)
    if left is not None:
        made.name = f"channels at {left:.0%} of the MACs"
    return made


def _of_share(
    share: float, lifted: Candidate, behind: Proposal | None, means: Means
) -> tuple[Candidate, Candidate]:
    """The trial at one share of the time: channels alone, and in the form in the end.

    Raises:
        GraphoptError: As ``attempt``.
    """
    trial = replace(means, limits=Limits())
    logger.info("one more form: %s", _asked(share))
    alone = pruned_alone(removal_at(share, behind), lifted, [], trial)
    if behind is None or alone.quality is None:
        return alone, alone
    name = f"{alone.name}, {behind.name}"
    both = attempt(alone, trial, replace(behind, name=name))
    return alone, replace(both, kind="pruned", name=name)
