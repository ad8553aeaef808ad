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

    def passed(self, since: float) -> float:
        """The share of the time from ``since`` to the end that is over; 0 without a limit.

        Args:
            since: By ``time.perf_counter``, as ``started``.
        """
        if self.seconds is None:
            return 0.0
        whole = self.started + self.seconds - since
        return min(1.0, (time.perf_counter() - since) / whole) if whole > 0 else 1.0

    def part(self, share: float) -> Deadline:
        """The end of a piece of work that may take a share of the time left; whole seconds."""
        if self.seconds is None:
            return self
        now = time.perf_counter()
        left = self.started + self.seconds - now
        return Deadline(float(max(0, round(share * left))), now)

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
