"""How much may be left of a model whose channels go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from graphopt.analysis.channels import ChannelGroup
from graphopt.contract.passes import Option
from graphopt.facts.shapes import Shapes
from graphopt.families.channels.costs import ChannelCosts, Term, mac_terms, size_terms
from graphopt.graph.graph import Graph

__all__ = ["BUDGETS", "ChannelBudget", "KeptShare"]

KeptShare = Annotated[
    float | None, Option("share to keep", low=0, high=1, low_open=True, high_open=True)
]
BudgetKind = Literal["macs", "params", "bytes", "share", "latency"]
BUDGETS: tuple[BudgetKind, ...] = ("macs", "params", "bytes", "share", "latency")


@dataclass(frozen=True)
class ChannelBudget:
    """What a model may cost, as a share of what the original costs.

    Attributes:
        kind: What is counted; of ``share`` the units of all groups. Times are measured elsewhere:
            see ``graphopt.families.channels.times``.
        value: The share that may be left; of ``share`` the one that goes.
    """

    kind: BudgetKind
    value: float

    def most(self, original: Graph, shapes: Shapes, groups: Sequence[ChannelGroup]) -> float:
        """What the model may cost.

        Args:
            original: The model before anything was taken from it.
            shapes: Of its tensors in a run.
            groups: Its groups.
        """
        if self.kind == "share":
            return (1 - self.value) * sum(group.size for group in groups)
        return self.value * sum(part for part, _ in self._terms(original, shapes))

    def cost(
        self, graph: Graph, shapes: Shapes, groups: Sequence[ChannelGroup]
    ) -> Callable[[Sequence[int]], float]:
        """What a graph costs, by the widths of its groups."""
        if self.kind == "share":
            return sum
        return ChannelCosts(self._terms(graph, shapes), groups)

    def _terms(self, graph: Graph, shapes: Shapes) -> list[Term]:
        if self.kind == "macs":
            return mac_terms(graph, shapes)
        return size_terms(graph, in_bytes=self.kind == "bytes")
