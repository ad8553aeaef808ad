"""A budget of MACs, parameters, bytes or channels: predicted by widths, held by counting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphopt.analysis.channels import channel_groups
from graphopt.errors import Need, PassError
from graphopt.families.channels.budget import BudgetKind
from graphopt.families.channels.costs import ChannelCosts, Term, mac_terms, size_terms
from graphopt.families.channels.cuts import Cut, cut_out
from graphopt.families.channels.narrowable import Narrowable
from graphopt.families.channels.readers import LayerRows
from graphopt.families.run_shapes import run_shapes, run_sizes
from graphopt.graph.graph import Graph
from graphopt.rewrite.unshare import unshare_vectors

__all__ = ["SizeBudget"]

_TRIES = 4


class SizeBudget:
    """What a model costs by the widths of its groups, and what the original did.

    Args:
        model: The model; layers whose rows are known are solved anew, and get a bias then.
        kind: What is counted; of ``share`` the units of all groups.

    Raises:
        PassError: MACs are counted, and those of no layer are known: sizes are left open.
    """

    def __init__(self, model: Narrowable, kind: BudgetKind) -> None:
        self._model, self._kind, self._groups = model, kind, model.groups
        read = {each.node.output[0] for group in self._groups for each in group.consumers}
        self._bare = {
            name: rows
            for name, rows in model.known.items()
            if name in read and rows.takes_mean and rows.bare and kind in ("params", "bytes")
        }
        whole = self._of_original()
        self._whole = whole or 1.0
        self.cost: Callable[[Sequence[int]], float] = sum
        if kind != "share":
            self.cost = ChannelCosts([*self._terms(), *self._added(self._bare)], self._groups)
        self.now = self._present() / whole if whole else 1.0

    def most(self, share: float) -> float:
        """What the model may cost, as a share of the original's costs."""
        return share * self._whole

    def kept(self, within: Callable[[float], list[Cut]], share: float) -> tuple[list[Cut], float]:
        """Cuts that keep the budget once it is counted what they leave.

        Args:
            within: The cuts by what is predicted for the rest.
            share: Of the original's costs.

        Returns:
            The cuts, and what they leave of those costs.
        """
        asked, left = self.most(share), self.now
        cuts: list[Cut] = []
        for number in range(_TRIES):
            if number:
                asked *= min(0.999, share / left)
            cuts = within(asked)
            left = self._left(cuts) / self._whole
            if left <= share or self.cost(self._model.widths(cuts)) > asked:
                break
        return cuts, left

    def _left(self, cuts: Sequence[Cut]) -> float:
        """What cuts really leave."""
        widths = self._model.widths(cuts)
        if self._kind == "share":
            return sum(widths)
        trial = self._model.graph.copy()
        cut_out(trial, self._model.shapes, cuts, {})
        read = {each.node.output[0] for cut in cuts for each in cut.group.consumers}
        added = self._added({name: rows for name, rows in self._bare.items() if name in read})
        return self._count(trial) + ChannelCosts(added, self._groups)(widths)

    def _present(self) -> float:
        """What the graph costs as it is."""
        if self._kind == "share":
            return sum(self._model.whole)
        return self._count(self._model.graph)

    def _terms(self) -> list[Term]:
        """What the graph costs now, by the axes that it goes with."""
        if self._kind != "macs":
            return size_terms(self._model.graph, in_bytes=self._kind == "bytes")
        terms = mac_terms(self._model.graph, self._model.shapes)
        return [*terms, (self._count(self._model.graph) - sum(size for size, _ in terms), {})]

    def _added(self, bare: Mapping[str, LayerRows]) -> list[Term]:
        """The biases that layers get which have none."""
        terms: list[Term] = []
        for rows in bare.values():
            one = rows.layer
            each = one.weight.dtype.itemsize if self._kind == "bytes" else 1
            place = one.weight.constant.origin, one.out_axis
            terms.append((each * one.channels, {place: one.weight.constant.shape[one.out_axis]}))
        return terms

    def _count(self, graph: Graph) -> float:
        """What a graph costs."""
        if self._kind == "macs":
            found = run_sizes(graph, self._model.context)
            if found.macs.total is not None:
                return found.macs.total
            counted = sum(size for size, _ in mac_terms(graph, found.shapes))
            if not counted:
                given = self._model.context.training is not None
                why = f"its MACs are not known: {found.macs.missing}"
                if given:
                    raise PassError(why)
                raise PassError(f"without samples {why}", Need.CALIBRATION)
            return counted
        return sum(size for size, _ in size_terms(graph, in_bytes=self._kind == "bytes"))

    def _of_original(self) -> float:
        """What the original costs, of which passes before may have taken some."""
        reference = self._model.context.reference
        if self._kind != "share":
            return self._count(reference)
        if not self._model.context.kept:
            return sum(self._model.whole)
        original, names = reference.copy(), {group.name for group in self._groups}
        unshare_vectors(original)
        found = channel_groups(original, run_shapes(reference, self._model.context)).groups
        return sum(group.size for group in found if group.name in names)
