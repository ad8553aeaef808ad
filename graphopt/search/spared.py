"""Forms of large models that need not be tried, since one before them comes close already."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.run.floor import too_far
from graphopt.run.limits import broken_by
from graphopt.run.means import Means
from graphopt.run.shared_session import HELD_WEIGHTS_BYTES
from graphopt.run.stage import Stage
from graphopt.search.candidate import GOAL_DB, Candidate, missing_db
from graphopt.search.trials import weigh

__all__ = ["close_already"]

_CLOSE_DB = 8.0
"""What it may miss to the goal. A judgement: on the few decoders and encoders of text tried, no
other form was better within it."""


def close_already(base: Candidate, stage: Stage, tried: Sequence[Candidate], means: Means) -> str:
    """The smoothed dynamic form of a large model, where no other one would be better.

    Its integers are as small and, to a few percent, as fast as those of the other forms, which
    round more. To try a form takes a model of hundreds of megabytes a large part of a minute.

    Args:
        base: The cleaned model, which the form is timed against: it has to be faster.
        stage: The model that forms are made of.
        tried: What was made of it so far.
        means: What to measure with; limits of the user have to hold as well.

    Returns:
        Its name; empty where it is not there, not that close, or the model is small.
    """
    if stage.graph.weight_bytes <= HELD_WEIGHTS_BYTES:
        return ""
    for item in tried:
        done = {each.name for each in item.passes}
        if item.kind != "smoothed" or "quantize-dynamic" not in done or item.quality is None:
            continue
        if item.problem or not item.quality.evidence or too_far(item.quality, None):
            continue
        far = missing_db(item.quality, GOAL_DB) > _CLOSE_DB
        if far or broken_by(item.quality, means.limits) is not None:
            continue
        if item.ratio is None:
            weigh(base, [item], means)
        if not item.problem and item.time < 1:
            return item.name
    return ""
