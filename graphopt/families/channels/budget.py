"""How much may be left of a model whose channels go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from graphopt.contract.passes import Missed, Option, missed_budget
from graphopt.families.channels.cuts import Cut

__all__ = ["BUDGETS", "ChannelBudget", "Costs", "KeptShare"]

KeptShare = Annotated[
    float | None, Option("share to keep", low=0, high=1, low_open=True, high_open=True)
]
BudgetKind = Literal["macs", "params", "bytes", "share", "latency"]
BUDGETS: tuple[BudgetKind, ...] = ("macs", "params", "bytes", "share", "latency")


class Costs(Protocol):
    """What a model costs by the widths of its groups, in a unit of its own."""

    @property
    def cost(self) -> Callable[[Sequence[int]], float]:
        """By widths, as predicted."""

    @property
    def now(self) -> float:
        """What the model costs as it is, as a share of the original's costs."""

    def most(self, share: float) -> float:
        """What a share of the original's costs is."""

    def kept(self, within: Callable[[float], list[Cut]], share: float) -> tuple[list[Cut], float]:
        """Cuts that keep to a share of the original's costs, as far as can be.

        Args:
            within: The cuts by what the rest may cost as predicted.
            share: It.

        Returns:
            The cuts, and what they leave, as a share of the original's costs.
        """


@dataclass(frozen=True)
class ChannelBudget:
    """What a model may cost, as a share of what the original costs.

    Attributes:
        kind: What is counted; of ``share`` the units of all groups.
        value: The share that may be left; of ``share`` the one that goes.
    """

    kind: BudgetKind
    value: float

    @property
    def most(self) -> float:
        """The share that may be left."""
        return 1 - self.value if self.kind == "share" else self.value

    def missed(self, left: float, reason: str) -> Missed | None:
        """The budget, where more is left than may be.

        Args:
            left: Share of the original's costs.
            reason: Why it is no less.
        """
        if self.kind == "share":
            return missed_budget(self.kind, self.value, 1 - left, reason, least=True)
        return missed_budget(self.kind, self.value, left, reason)
