"""How much may be left of a model whose channels go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from graphopt.analysis.channels import ChannelGroup, channel_groups
from graphopt.contract.passes import Option
from graphopt.facts.shapes import Shapes
from graphopt.families.channels.costs import ChannelCosts, Term, mac_terms, size_terms
from graphopt.families.channels.narrowable import Narrowable
from graphopt.families.run_shapes import run_shapes
from graphopt.graph.graph import Graph
from graphopt.rewrite.unshare import unshare_vectors

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

    def most(self, model: Narrowable) -> float:
        """What a model may cost: a share of the original, of which some may be gone already."""
        original, shapes = model.context.reference.copy(), model.shapes
        unshare_vectors(original)
        groups: Sequence[ChannelGroup] = model.groups
        if model.context.kept:
            shapes = run_shapes(model.context.reference, model.context)
            names = {group.name for group in groups}
            found = channel_groups(original, shapes).groups
            groups = [group for group in found if group.name in names]
        if self.kind == "share":
            return (1 - self.value) * sum(group.size for group in groups)
        return self.value * sum(part for part, _ in self._terms(original, shapes))

    def cost(self, model: Narrowable) -> Callable[[Sequence[int]], float]:
        """What a model costs, by the widths of its groups."""
        if self.kind == "share":
            return sum
        return ChannelCosts(self._terms(model.graph, model.shapes), model.groups)

    def _terms(self, graph: Graph, shapes: Shapes) -> list[Term]:
        if self.kind == "macs":
            return mac_terms(graph, shapes)
        return size_terms(graph, in_bytes=self.kind == "bytes")
