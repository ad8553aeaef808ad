"""The time after which nothing new is started, and what goes in steps ends."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from graphopt.errors import Need, PassError

__all__ = ["Deadline"]


@dataclass(frozen=True)
class Deadline:
    """A limit of wall time; what is under way asks between its steps.

    Attributes:
        seconds: How long from ``started`` on; None for no limit.
        started: When, by ``time.perf_counter``.
    """

    seconds: float | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def over(self) -> bool:
        """Whether nothing new is to be started."""
        return self.seconds is not None and time.perf_counter() - self.started >= self.seconds

    def told(self, what: str) -> str:
        """A sentence on what was left undone."""
        return f"{what}; the time limit of {self.seconds:g} s was over"

    def check(self, what: str) -> None:
        """End a piece of work that the time does not suffice for.

        Args:
            what: When it ends, such as ``before it was tried``.

        Raises:
            PassError: The time is over.
        """
        if self.over:
            raise PassError(
                f"the time limit of {self.seconds:g} s was over {what}", Need.TIME_LIMIT
            )
