"""What the passes have in common that make thin products of weights."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

from graphopt.contract.budgets import at_most_one
from graphopt.contract.passes import Changes, Context, Option, Pass, missed_budget
from graphopt.contract.preconditions import Precondition, Unquantized
from graphopt.contract.taken import LayerRank
from graphopt.facts.layers import Refusal
from graphopt.facts.select import select
from graphopt.facts.weights import WeightGroup, weight_groups
from graphopt.families.chosen import Exclude, MinSize, Nodes
from graphopt.families.layer_inputs import Inputs, inputs_of
from graphopt.families.low_rank_forms import Factored, Forms
from graphopt.families.rank_plan import Counted, RankPlan
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.numerics.lowrank import Budget
from graphopt.rewrite.values import drop_unread

__all__ = ["LowRank"]

_DEFAULT_ENERGY = 0.95
"""Share of the sum of squares that is kept where no budget is given."""


@dataclass(frozen=True, kw_only=True)
class LowRank(Pass):
    """A pass whose ranks follow from one budget; without any it is an energy of 0.95."""

    rank: Annotated[int | None, Option("rank of every layer", low=1)] = None
    energy: Annotated[
        float | None, Option("share of energy that every layer keeps", low=0, high=1, low_open=True)
    ] = None
    macs: Annotated[
        float | None,
        Option(
            "share of MACs that all keep together", low=0, high=1, low_open=True, high_open=True
        ),
    ] = None
    bytes: Annotated[
        float | None,
        Option("share of bytes they keep together", low=0, high=1, low_open=True, high_open=True),
    ] = None
    min_size: MinSize = 1024
    nodes: Nodes = ()
    exclude: Exclude = ()
    allow_slower: Annotated[
        bool, Option("take forms too that are slower on this machine than the layer was")
    ] = False
    lossy: ClassVar[bool] = True
    uses_samples: ClassVar[bool] = True
    requires: ClassVar[tuple[Precondition, ...]] = (Unquantized(),)
    op_types: ClassVar[tuple[str, ...]]
    """Operators whose weights it factorizes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("rank", "energy", "macs", "bytes")
        at_most_one(self.name, {each: getattr(self, each) for each in names})

    @abstractmethod
    def refusal(self, group: WeightGroup, graph: Graph) -> Refusal | None:
        """Why the form of the layers does not allow it; None where it does."""

    @abstractmethod
    def forms(self, group: WeightGroup, read: Inputs | None, seed: int) -> Forms:
        """The low-rank forms of a weight."""

    def run(self, graph: Graph, context: Context) -> Changes:
        """Find the layers, choose a form for each, put it there."""
        changes = Changes()
        seed = int(context.rng.integers(2**32))
        groups, others = [], []
        chosen = select(graph, self.nodes, self.exclude)
        for group in weight_groups(graph, chosen, self.op_types):
            if refusal := group.refusal(self.min_size) or self.refusal(group, graph):
                changes.skip(refusal)
                others.append(group)
            else:
                groups.append(group)
        read = inputs_of(groups, graph, context)
        plan = RankPlan(graph, context, timed=not self.allow_slower and self.bytes is None)
        forms = [self.forms(*each, seed) for each in zip(groups, read, strict=True)]
        was_chosen = select(context.reference, self.nodes, self.exclude)
        original = list(weight_groups(context.reference, was_chosen, self.op_types))
        shared = self._shared
        if shared is None:
            plans = [plan.alone(each, self._budget) for each in forms]
        else:
            plans = plan.together(forms, others, original, *shared)
            kind, share = shared
            left = plan.left(forms, plans, others, original, kind)
            changes.missed = missed_budget(kind, share, left, "no more forms may be taken")
        for each, found in zip(forms, plans, strict=True):
            if isinstance(found, str):
                changes.skip(each.group.name, found)
            else:
                unseen = context.calibrated and each.read is None
                _put(each, each.finished(found), changes, unseen=unseen)
        return changes

    @property
    def _shared(self) -> tuple[Counted, float] | None:
        """What all layers keep together; None where each has its own budget."""
        if self.macs is not None:
            return "macs", self.macs
        return None if self.bytes is None else ("bytes", self.bytes)

    @property
    def _budget(self) -> Budget:
        """What each layer keeps."""
        if self.rank is not None:
            return Budget("rank", self.rank)
        return Budget("energy", _DEFAULT_ENERGY if self.energy is None else self.energy)


def _put(forms: Forms, found: Factored, changes: Changes, *, unseen: bool) -> None:
    """Edit the layers, their biases with them, and tell it; of what, where samples said nothing."""
    group = forms.group
    what = " of its weights, as samples do not tell what it reads," if unseen else ""
    forms.put(found, group.layers)
    for layer in group.layers:
        changes.edit(
            layer.node,
            f"{found.words}: keeps {found.energy:.1%} of the energy{what} "
            f"at {found.macs_share:.0%} of the MACs",
        )
        changes.taken.ranks.append(
            LayerRank(label(layer.node), found.kind, found.full_ranks, found.ranks)
        )
    drop_unread(group.constant.scope, [group.constant.origin])
