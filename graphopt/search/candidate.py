"""One form of the model that ``auto`` tried, how it is weighed, and which one is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from graphopt.contract.passes import Pass
from graphopt.contract.spec import format_passes
from graphopt.errors import Need
from graphopt.run.record import CandidateRecord, PassRecord, Quality
from graphopt.run.stage import Stage
from graphopt.runtime.latency import SAME, Ratio

__all__ = ["FLOOR_DB", "GOAL_DB", "Candidate", "Kind", "choose", "row"]

GOAL_DB = 28.0
"""An output this close is close enough: further dB weigh nothing. A choice, not a guarantee."""
FLOOR_DB = 12.0
"""What is further off is never chosen: 6 % of the output's power would be error."""
_DB_WEIGHT = 0.04
"""One dB that is missing to the goal weighs as much as 4 % of time."""
_BYTES_WEIGHT = 0.25
"""Half of the bytes weigh as much as 16 % of time."""
_MARGIN = 0.05
"""What is cheaper by less than this is no better: clocks and samples are not that exact."""

Kind = Literal["float", "float32", "static", "mixed", "smoothed", "dynamic", "weights"]
"""What a form is in essence; its name is for people."""


@dataclass
class Candidate:
    """One form of the model that was tried.

    ``problem`` says why it cannot be chosen, ``needs`` what would help.
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

    def cost(self, base_bytes: int) -> float:
        """What is weighed: log of time and bytes against the cleaned model, and missing dB.

        The cleaned model itself costs 0; less is better.
        """
        differs = self.ratio is not None and self.ratio.differs
        time = math.log(self.ratio.median) if self.ratio is not None and differs else 0.0
        size = _BYTES_WEIGHT * math.log(self.bytes / base_bytes)
        worst = None if self.quality is None else self.quality.worst_db
        return time + size + _DB_WEIGHT * max(0.0, GOAL_DB - (GOAL_DB if worst is None else worst))


def choose(base: Candidate, tried: Sequence[Candidate]) -> Candidate:
    """The cheapest one; where the difference is small, the one that was proposed first.

    The cleaned model comes before all, and forms that no sample can mislead before others.
    """
    chosen = base
    for item in tried:
        if not item.problem and item.cost(base.bytes) < chosen.cost(base.bytes) - _MARGIN:
            chosen = item
    return chosen


def _verdict(item: Candidate, base_bytes: int) -> str:
    """How a candidate stands to the cleaned model, with time, bytes and dB weighed."""
    if item.kind == "float":
        return "the measure of the others"
    gain = 1 - math.exp(item.cost(base_bytes))
    if gain <= 0:
        return "no gain, all weighed"
    return f"gains {gain:.0%}, all weighed"


def row(item: Candidate, chosen: bool, base_bytes: int) -> CandidateRecord:
    """A candidate as a line of the table."""
    quality, ratio = item.quality, SAME if item.kind == "float" else item.ratio
    return CandidateRecord(
        name=item.name,
        spec=format_passes(item.passes),
        bytes=item.bytes,
        latency_ratio=None if ratio is None else ratio.median,
        sqnr_db=None if quality is None else quality.worst_db,
        agreement_top1=None if quality is None else quality.agreement_top1,
        metric=None if quality is None or quality.metric is None else quality.metric.after,
        chosen=chosen,
        verdict=item.problem or _verdict(item, base_bytes),
        needs=item.needs,
        latency_spread=None if item.ratio is None else item.ratio.spread,
        latency_clock=None if item.ratio is None else item.ratio.clock,
    )
