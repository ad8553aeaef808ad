"""Forms with fewer channels, trained for a short while towards the model as it came."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from graphopt.contract.settings import Limits
from graphopt.contract.spec import parse_passes
from graphopt.data.samples import Samples
from graphopt.errors import DataError, LimitError, ModelError, PassError
from graphopt.facts.layers import float_layers
from graphopt.families.training import beyond_memory, torch_is_there
from graphopt.graph import io
from graphopt.graph.node import is_op
from graphopt.run.means import Means
from graphopt.run.sequence import run_passes
from graphopt.run.stage import Stage
from graphopt.search.candidate import Candidate, choose
from graphopt.search.proposals import Proposal
from graphopt.search.pruned import form_behind, pruned_alone, removal_at
from graphopt.search.trials import attempt, weigh

__all__ = ["trained_forms", "training_spec"]

logger = logging.getLogger(__name__)

_SHARES = (0.7, 0.55, 0.4)
"""Shares of the time from which training starts; the first that nothing untrained comes down to."""
_NEXT = {(0.7, True): 0.55, (0.55, True): 0.4, (0.7, False): 0.85, (0.55, False): 0.62}
"""Which share is trained next, by whether the last one held the limits."""
_OF_THE_TIME = 0.5
"""What one training may take of the time left: what it made is still put on integers, judged and
timed, and the next share is trained."""
_RATES = (1e-3, 2e-4)
"""What is far from its teacher needs a high rate; what is near goes astray at it, and is trained
once more at the next one where nothing came of the first."""
_BATCH, _LEAST_STEPS = 64, 250
_NEW = 2
"""Samples that are seen no more often are not changed: other views only stand for missing ones."""
_LOOKS = 4
_ENOUGH = 2000
"""Of fewer samples the repair has made what there is to make: on 486 pictures no step of a training
helped a network that 45,000 brought back."""
_TOO_FEW = (
    "forms with fewer channels were not trained: of so few samples ({count}) the repair has made "
    f"what there is to make; with {_ENOUGH:,} or more to train on, no labels needed, more channels "
    "could go"
)
_MOVED = 8
"""Pictures are moved by up to one part in so many of their height."""
_COLOURS = (1, 3)


def trained_forms(
    base: Candidate,
    lifted: Candidate,
    tried: Sequence[Candidate],
    pruned: Sequence[Candidate],
    means: Means,
) -> tuple[list[Candidate], list[str]]:
    """The model with fewer channels than a limit allows untrained, and a short distillation behind.

    Each is weighed alone and, where that is the best form so far, on integers. Training is towards
    the model as it came, on the samples to train on or else those that passes observe, if there are
    enough; it leaves the weights alone where they do no better on samples that it held out.

    Args:
        base: The cleaned model.
        lifted: Where trials start.
        tried: The forms with all channels, measured.
        pruned: Those with fewer channels, untrained, measured; without any there is nothing to do.
        means: What to measure with.

    Returns:
        The candidates, measured, and how each training went or why there was none.
    """
    if means.training is not None and means.calibration is None:
        return [], ["nothing was trained: to remove channels takes calibration samples"]
    if not pruned or means.calibration is None:
        return [], []
    if means.training is None and means.calibration.count < _ENOUGH:
        return [], [_TOO_FEW.format(count=means.calibration.count)]
    if not torch_is_there():
        return [], ["no form with fewer channels was trained: PyTorch is not installed"]
    best = choose(base, tried)
    behind = form_behind(best, lifted)
    held = min((item.time / best.time for item in pruned if not item.problem), default=1.0)
    found, told = list[Candidate](), list[str]()
    told += beyond_memory(parse_passes("distill"), means.machine.memory_limit)
    share = next((each for each in _SHARES if each < held), None)
    while share is not None and share < held:
        if means.deadline.over:
            return found, [
                *told,
                means.deadline.told(f"not trained: channels at {share:.0%} of the time"),
            ]
        try:
            new, words = _of_share(share, lifted, pruned, behind, means)
        except (PassError, DataError, ModelError, LimitError) as err:
            return found, [*told, f"no form with fewer channels was trained: {err}"]
        told.append(words)
        if not new:
            return found, told
        weigh(base, new, means)
        found += new
        share = _NEXT.get((share, any(not item.problem for item in new)))
    return found, told


def _of_share(
    share: float,
    lifted: Candidate,
    pruned: Sequence[Candidate],
    behind: Proposal | None,
    means: Means,
) -> tuple[list[Candidate], str]:
    """The trained model with a share of the time: alone, and the best form so far of it.

    Returns:
        Both, and how the training went; nothing where it did not help.

    Raises:
        GraphoptError: As ``attempt``.
    """
    trial = replace(means, limits=Limits())
    start = pruned_alone(removal_at(share, behind), lifted, pruned, trial)
    if start.quality is None:
        raise PassError(start.problem)
    name = f"{start.name}, trained"
    logger.info("one more form: %s", name)
    for rate in _RATES:
        part = replace(trial, deadline=means.deadline.part(_OF_THE_TIME))
        alone = _trained(start, part, name, rate)
        if alone.records[-1].status != "nothing to do":
            break
    record = alone.records[-1]
    if record.status != "done":
        return [], f"{start.name}: not trained: {record.reason}"
    words = _told(alone)
    if behind is None:
        return [alone], words
    logger.info("one more form: %s, %s", name, behind.name)
    both = attempt(alone, trial, behind)
    return [alone, replace(both, kind="pruned", name=f"{name}, {behind.name}")], words


def _trained(start: Candidate, means: Means, name: str, rate: float) -> Candidate:
    """A form after a training; its last record says whether it did anything.

    Raises:
        GraphoptError: As ``run_passes``.
    """
    passes = parse_passes(training_spec(start.stage, means, rate))
    means.tell(f"try {name}", 0, 1)
    stage, records = run_passes(start.stage, means, passes)
    done, size, limited = start.passes + passes, io.size(stage.graph), start.limited
    told = start.records + records
    made = Candidate(start.kind, name, done, stage, told, size, limited=limited)
    assert means.judge is not None
    made.quality = means.judge.compare(stage.answers)
    stage.rest()
    return made


def _told(made: Candidate) -> str:
    """What was trained for how long, and what came of it on the samples held out."""
    curves = made.records[-1].curves
    assert curves is not None
    steps, losses = max(step for step, _ in curves.loss), dict(curves.held_out_loss)
    words = f"{made.name}: {steps} steps on {curves.samples} samples in {curves.seconds:.0f} s"
    if not losses:
        return f"{words}; too few to hold some out"
    gain = f"{losses[0]:.3g} -> {losses[curves.best_step]:.3g}"
    return f"{words}; loss of the {curves.held_out} held out {gain}"


def training_spec(stage: Stage, means: Means, rate: float) -> str:
    """The pass that trains a pruned model: one epoch, but not fewer than some steps.

    Convolutions get normalizations for the time of the training. Pictures that are seen many times
    are moved and mirrored: the teacher answers to what it is shown, so that other views are samples
    like any other.
    """
    samples = means.training or means.calibration
    assert samples is not None
    batch = min(_BATCH, max(1, samples.count // 2))
    steps = max(_LEAST_STEPS, samples.count // batch)
    options = [f"steps={steps}", f"batch={batch}", f"lr={rate:g}", f"evaluations={_LOOKS}"]
    if _has_convolutions(stage):
        options.append("batch_norm=insert")
    height = _height(samples)
    if height and steps * batch > _NEW * samples.count:
        options.append(f"flip=true,shift={height // _MOVED}")
    return f"distill{{{','.join(options)}}}"


def _has_convolutions(stage: Stage) -> bool:
    """Whether there is a convolution with a bias, which takes up a normalization."""
    layers = float_layers(stage.graph.main)
    return any(is_op(each.node, "Conv") and each.bias is not None for each in layers)


def _height(samples: Samples) -> int:
    """Of the pictures that the samples are, channels first; 0 where they are none."""
    feeds, _ = next(iter(samples.feeds(limit=1)))
    shapes = [array.shape for array in feeds.values() if array.ndim == 4]
    if not shapes or any(shape[1] not in _COLOURS for shape in shapes):
        return 0
    return int(shapes[0][2])
