"""Whether a pass kept to the budget that it was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.errors import UsageError

__all__ = ["Missed", "at_most_one", "missed_budget"]

_ROUNDING = 1e-6
"""Figures that differ by less, relative to what was asked, are the same."""


@dataclass(frozen=True)
class Missed:
    """A budget that a pass was given and did not keep to.

    Attributes:
        budget: The option that asks for it.
        asked: Its value.
        reached: The same figure of what the pass left; None where nobody can tell.
        reason: Why it is no closer, in words.
    """

    budget: str
    asked: float
    reached: float | None
    reason: str

    def __str__(self) -> str:
        """What was missed, in words."""
        if self.reached is None:
            return f"{self.budget}={self.asked:g} cannot be told to be kept: {self.reason}"
        if float(self.asked).is_integer() and float(self.reached).is_integer():  # a count
            return f"{self.budget}={self.asked:g} is missed at {self.reached:g}: {self.reason}"
        digits = next((d for d in (3, 5) if round(self.reached, d) != round(self.asked, d)), 8)
        return f"{self.budget}={self.asked:g} is missed at {self.reached:.{digits}f}: {self.reason}"


def at_most_one(name: str, budgets: Mapping[str, float | None]) -> None:
    """Refuse a pass that was given several budgets.

    Args:
        name: Of the pass.
        budgets: Values by option; None where it was not given.

    Raises:
        UsageError: More than one was given.
    """
    given = [option for option, value in budgets.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{name}: {' and '.join(given)} exclude each other; give one")


def missed_budget(
    budget: str, asked: float, reached: float | None, reason: str, *, least: bool = False
) -> Missed | None:
    """The budget, where it is missed; None where it is kept.

    >>> missed_budget("macs", 0.5, 0.4, "") is None
    True
    >>> str(missed_budget("macs", 0.5, 0.62, "no more channels can go"))
    'macs=0.5 is missed at 0.620: no more channels can go'

    Args:
        budget: The option.
        asked: Its value: the most that may be left or, with ``least``, the least to reach.
        reached: The figure found; None where nobody can tell, which does not count as kept.
        reason: Why no more could be had.
        least: What counts as missed.
    """
    if reached is not None:
        beyond = asked - reached if least else reached - asked
        if beyond <= _ROUNDING * abs(asked):
            return None
    return Missed(budget, asked, reached, reason)
