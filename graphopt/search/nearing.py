"""Which share of the time is tried next, on the way to the least that holds the limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Nearing"]

STEPS = 20
"""Shares are multiples of a twentieth: what is cheaper by less counts as equal anyhow."""
_FIRST, _MOST = 3, 15
_TRIALS = 6
_POWER = 2.0
"""What is lost grows with about the square of what goes."""


@dataclass
class Nearing:
    """A search for the least share that holds the limits, in few trials.

    After each trial the next one is where the limit would be used up if losses grew with the square
    of what goes; it never leaves what is between the least share that held and the largest that
    did not.

    Attributes:
        held: Twentieths that are gone in the trial that held with the most gone; 0 for none.
        broken: The same of the one that did not with the least; above all where all held.
    """

    held: int = 0
    broken: int = _MOST + 1
    _next: int | None = _FIRST
    _trials: int = field(default=0, repr=False)

    @property
    def share(self) -> float | None:
        """The share that is tried next; None where there is nothing more to find."""
        return None if self._next is None else (STEPS - self._next) / STEPS

    def tell(self, holds: bool, used: float | None) -> None:
        """What came of the trial.

        Args:
            holds: Whether it held the limits.
            used: How much of what the limits allow it took, 1 for all of it; None where that
                cannot be told.
        """
        gone = self._next
        assert gone is not None
        self._trials += 1
        if holds:
            self.held = max(self.held, gone)
        else:
            self.broken = min(self.broken, gone)
        self._next = None
        if self.broken - self.held > 1 and self._trials < _TRIALS:
            self._next = min(max(self._guess(gone, used), self.held + 1), self.broken - 1)

    def _guess(self, gone: int, used: float | None) -> int:
        """Where the limit would be used up; no more than twice as far as anything that held."""
        if used is None or not math.isfinite(used):
            return (self.held + min(self.broken, 2 * gone)) // 2
        there: float = gone * max(used, 1e-6) ** (-1 / _POWER)
        return math.floor(min(there, 2.0 * gone))
