"""One form of the model that ``auto`` tried, how it is weighed, and which one is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from graphopt.contract.passes import Pass
from graphopt.contract.spec import format_passes
from graphopt.errors import Need
from graphopt.numerics.sqnr import CAP_DB
from graphopt.run.floor import FLOOR_DB
from graphopt.run.quality import Quality
from graphopt.run.record import CandidateRecord, PassRecord
from graphopt.run.stage import Stage
from graphopt.runtime.latency import SAME, Ratio
from graphopt.tasks.quality import share_db

__all__ = [
    "BYTES_WEIGHT",
    "GOAL_DB",
    "MARGIN",
    "SAME_DB",
    "Candidate",
    "Kind",
    "choose",
    "missing_db",
    "row",
    "weighed",
]

GOAL_DB = 28.0
"""An output this close is close enough: further dB weigh nothing. A choice, not a guarantee."""
_SHARE_GOAL_DB = 16.0
"""The same for decisions and rows: 2.5 % that differ."""
_DB_WEIGHT = 0.04
"""One dB that is missing to the goal weighs as much as 4 % of time."""
BYTES_WEIGHT = 0.25
"""Half of the bytes weigh as much as 16 % of time."""
MARGIN = 0.05
"""What is cheaper by less than this is no better: clocks and samples are not that exact."""

_SAME_BYTES = 0.01

SAME_DB = 3.0
"""Forms whose accuracy differs by less are equally accurate: half the noise power is no more than
another draw of samples makes."""

Kind = Literal["float", "float32", "static", "mixed", "smoothed", "dynamic", "weights", "pruned"]
"""What a form is in essence; its name is for people."""


@dataclass
class Candidate:
    """One form of the model that was tried.

    ``problem`` says why it cannot be chosen, ``needs`` what would help. Where it is ``limited``,
    limits of the user say what is close enough: what holds them misses nothing; ``used`` is how
    much of what they allow it takes, where that was measured.
    """

    kind: Kind
    name: str
    passes: list[Pass]
    stage: Stage
    records: list[PassRecord]
    bytes: int
    ratio: Ratio | None = None
    quality: Quality | None = None
    problem: str = ""
    needs: tuple[Need, ...] = ()
    limited: bool = False
    used: float | None = None

    def cost(self, base_bytes: int) -> float:
        """What is weighed: log of time and bytes against the cleaned model, and missing dB.

        The cleaned model itself costs 0; less is better.
        """
        return weighed(self.time, self.bytes / base_bytes, self.missing_db)

    @property
    def missing_db(self) -> float:
        """What it lacks to be close enough, dB."""
        return 0.0 if self.limited else missing_db(self.quality, GOAL_DB)

    @property
    def time(self) -> float:
        """Its time over the cleaned model's; 1 where there is no difference, or none measured."""
        return self.ratio.median if self.ratio is not None and self.ratio.differs else 1.0


def weighed(time: float, size: float, missing: float) -> float:
    """What a form costs: time and bytes over the cleaned model's, and dB that are missing."""
    return math.log(time) + BYTES_WEIGHT * math.log(size) + _DB_WEIGHT * missing


def missing_db(quality: Quality | None, goal_db: float = GOAL_DB) -> float:
    """What the worst output lacks to be close enough, dB; shares by what they are worth.

    Args:
        quality: What was measured.
        goal_db: SQNR that is close enough.
    """
    if quality is None:
        return 0.0
    close, error = quality.close_db, quality.error
    numbers = 0.0 if close is None else goal_db - close
    shares = 0.0 if error is None else _SHARE_GOAL_DB - share_db(error)
    return max(0.0, numbers, shares)


def choose(base: Candidate, tried: Sequence[Candidate]) -> Candidate:
    """The cheapest one; where others cost hardly more, the most accurate of these.

    Of equally accurate ones it is the one that was proposed first, unless another one is no worse
    in time, bytes and dB and better in one of the former. The cleaned model comes before all that
    gain hardly more.
    """
    costs = {id(item): item.cost(base.bytes) for item in tried if not item.problem}
    least = min(costs.values(), default=0.0)
    if least >= -MARGIN:
        return base
    near = [item for item in tried if costs.get(id(item), 0.0) < min(least + MARGIN, -MARGIN)]
    for figure in (_accuracy, _numbers):
        best = max(map(figure, near))
        near = [item for item in near if figure(item) >= best - SAME_DB]
    return _undominated(near[0], near)


def _undominated(item: Candidate, others: Sequence[Candidate]) -> Candidate:
    """The form itself, or one that is as good in every way and clearly better in time or bytes."""
    while better := [other for other in others if _beats(other, item)]:
        item = better[0]
    return item


def _beats(item: Candidate, other: Candidate) -> bool:
    """Times are the same unless they are further apart than their spreads; so no clock decides."""
    if item.bytes > other.bytes or _accuracy(item) < _accuracy(other):
        return False
    spreads = [each.ratio.spread for each in (item, other) if each.ratio is not None]
    later, noise = item.time - other.time, math.hypot(*spreads)
    smaller = item.bytes < (1 - _SAME_BYTES) * other.bytes
    return later < -noise or (smaller and later <= noise)


def _accuracy(item: Candidate) -> float:
    """The figure that decides, dB; without a figure the least."""
    worst = None if item.quality is None else item.quality.worst_db
    return -CAP_DB if worst is None else worst


def _numbers(item: Candidate) -> float:
    """That of outputs that hold numbers, where decisions or rows decide."""
    least = None if item.quality is None else item.quality.least_db
    return -CAP_DB if least is None else least


def _verdict(item: Candidate, base_bytes: int, floor_db: float) -> str:
    """How a candidate stands to the cleaned model, with time, bytes and dB weighed."""
    if item.kind == "float":
        return f"the measure; floor {floor_db:g} dB"
    gain = 1 - math.exp(item.cost(base_bytes))
    if gain <= 0:
        return "no gain, all weighed"
    return f"gains {gain:.0%}, all weighed"


def row(
    item: Candidate, chosen: bool, base_bytes: int, min_sqnr_db: float | None
) -> CandidateRecord:
    """A candidate as a line of the table; ``min_sqnr_db`` is the user's floor, None for ours."""
    floor_db = FLOOR_DB if min_sqnr_db is None else min_sqnr_db
    quality, ratio = item.quality, SAME if item.kind == "float" else item.ratio
    return CandidateRecord(
        name=item.name,
        spec=format_passes(item.passes),
        bytes=item.bytes,
        latency_ratio=None if ratio is None else ratio.median,
        sqnr_db=None if quality is None else quality.least_db,
        agreement_top1=None if quality is None else quality.least_agreement,
        metric=None if quality is None or quality.metric is None else quality.metric.after,
        chosen=chosen,
        verdict=item.problem or _verdict(item, base_bytes, floor_db),
        needs=item.needs,
        latency_spread=None if item.ratio is None else item.ratio.spread,
        latency_clock=None if item.ratio is None else item.ratio.clock,
    )
