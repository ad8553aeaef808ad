"""How the time of candidates stands to the cleaned model's.

The choice rests on the processor time of one thread: it is the same on a busy machine and on a
quiet one. What cannot be faster by construction is never measured to be.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.errors import ModelError
from graphopt.run.means import Means
from graphopt.run.room import room_beside
from graphopt.run.stage import Stage
from graphopt.runtime.bursts import Runner, measure
from graphopt.runtime.latency import SAME, Ratio, joint, timed
from graphopt.runtime.session import Session, thread_count
from graphopt.runtime.work import maybe_alike
from graphopt.search.candidate import Candidate
from graphopt.search.reckoning import reckoned
from graphopt.targets import elsewhere

__all__ = ["ratios"]

_SECONDS = 4.0
_SETTLED = 0.02
"""Far below the margin within which candidates count as equal."""


def ratios(base: Candidate, candidates: Sequence[Candidate], means: Means) -> list[Ratio]:
    """Processor time of each against the cleaned model's, in turns, on one sample.

    For a target that is not this machine it is reckoned from the table instead.

    A candidate for which onnxruntime makes the same graph is not timed: its ratio is 1. One whose
    graph holds all that the cleaned model's does is never faster.

    Raises:
        ModelError: A candidate cannot be run.
    """
    if means.judge is None:
        return []
    if elsewhere(means.target):
        return [reckoned(item.stage, base.stage, means.target) for item in candidates]
    found = {id(item): SAME for item in candidates if _same(item.stage, base.stage)}
    others = [item for item in candidates if id(item) not in found]
    graphs = [item.stage.graph for item in (base, *others)]
    light = room_beside(graphs, base.stage.macs, means.machine.memory_limit)
    for group in [others] if light else [[item] for item in others]:
        found.update(zip(map(id, group), _timed(base, group, means, light), strict=True))
    return [found[id(item)] for item in candidates]


def _timed(base: Candidate, group: Sequence[Candidate], means: Means, light: bool) -> list[Ratio]:
    """A candidate that is a little slower is timed again, in sessions that lie elsewhere."""
    if not group:
        return []
    runners = [_runner(item.stage, means, light) for item in (base, *group)]
    found = _measured(base, group, runners)
    doubtful = [item for item, ratio in zip(group, found, strict=True) if ratio.doubtful]
    if not doubtful:
        return found
    if not light:  # else they are held, so that the others get memory of their own
        runners.clear()
    others = [_runner(item.stage, means, light, fresh=True) for item in (base, *doubtful)]
    again = dict(zip(map(id, doubtful), _measured(base, doubtful, others), strict=True))
    return [
        joint(ratio, again[id(item)]) if id(item) in again else ratio
        for item, ratio in zip(group, found, strict=True)
    ]


def _measured(
    base: Candidate, group: Sequence[Candidate], runners: Sequence[Runner]
) -> list[Ratio]:
    seconds = _SECONDS * len(group)
    found = measure(runners, seconds=seconds, settled=_SETTLED, clock="processor")
    return [
        (told.never_faster() if _more(item.stage, base.stage) else told).ratio
        for item, told in zip(group, timed(found, "processor")[1:], strict=True)
    ]


def _runner(stage: Stage, means: Means, light: bool, *, fresh: bool = False) -> Runner:
    """A stage with a session of one thread; where memory is short, with the session at hand."""
    assert means.judge is not None
    feeds, threads = means.judge.samples[0].feeds, thread_count(means.threads)
    if light and (fresh or threads > 1):
        return Runner(Session(stage.graph, threads=1), feeds)
    return Runner(stage.session, feeds, None, threads)


def _same(stage: Stage, base: Stage) -> bool:
    """Whether onnxruntime does the same for a candidate as for the model that it was made of.

    That one is the cleaned model, or the same at a higher opset.
    """
    if not maybe_alike(stage.graph, base.graph):
        return False
    try:
        return stage.work.equals(base.work) or stage.work.equals(stage.float_stage.work)
    except ModelError:  # onnxruntime runs models that it cannot save; they are timed
        return False


def _more(stage: Stage, base: Stage) -> bool:
    """Whether onnxruntime does all for a candidate that it does for the cleaned model, and more."""
    if not maybe_alike(stage.graph, base.graph):
        return False
    try:
        return stage.work.contains(base.work) or stage.work.contains(stage.float_stage.work)
    except ModelError:
        return False
