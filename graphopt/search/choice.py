"""What a plan came to."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphopt.contract.passes import Pass
from graphopt.run.record import CandidateRecord, PassRecord
from graphopt.run.stage import Stage
from graphopt.run.verify import Verified

__all__ = ["Choice"]


@dataclass(frozen=True)
class Choice:
    """What a plan came to.

    Attributes:
        stage: The chosen form of the model.
        records: The passes that made it.
        passes: What reproduces it.
        candidates: The table of all that ``auto`` tried.
        messages: What the user should know about the choice.
        verified: What it was measured to be, where that was done on the way.
    """

    stage: Stage
    records: list[PassRecord]
    passes: list[Pass]
    candidates: list[CandidateRecord] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    verified: Verified | None = None
