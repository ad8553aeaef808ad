"""Pass ``prune-channels``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, TypeVar

from graphopt.analysis.channels import ChannelGroup, channel_groups
from graphopt.contract.budgets import at_most_one
from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass, Skip
from graphopt.contract.preconditions import (
    CalibrationSamples,
    TimingSamples,
    TrainingSamples,
    Unquantized,
    When,
)
from graphopt.contract.registry import register
from graphopt.facts.layers import Refusal
from graphopt.facts.select import select
from graphopt.facts.shapes import Shapes
from graphopt.families.channels.budget import BUDGETS, ChannelBudget, Costs, KeptShare
from graphopt.families.channels.curves import measured_curves, plain_curves
from graphopt.families.channels.cuts import Cut, cut_out
from graphopt.families.channels.drops import branch_of
from graphopt.families.channels.examples import heads_model, wide_model
from graphopt.families.channels.narrowable import Narrowable, Way
from graphopt.families.channels.order import Criterion, Ordering
from graphopt.families.channels.readers import LayerRows, layer_rows
from graphopt.families.channels.size_budget import SizeBudget
from graphopt.families.channels.slopes import slopes_of
from graphopt.families.channels.steps import allowed_widths, timed_widths
from graphopt.families.channels.time_budget import TimeBudget
from graphopt.families.channels.times import Form
from graphopt.families.channels.together import corrected_curves
from graphopt.families.channels.told import narrowed, taken, why_no_more
from graphopt.families.channels.unsolved import Energies, input_energies
from graphopt.families.chosen import Exclude, Nodes
from graphopt.families.padding import RealRows
from graphopt.families.run_shapes import run_shapes
from graphopt.graph.graph import Graph
from graphopt.numerics.elimination import Elimination
from graphopt.numerics.narrowing import Curve, allocate, even_widths
from graphopt.rewrite.unshare import unshare_vectors

__all__ = ["PruneChannels"]

T = TypeVar("T")


@register("prune-channels")
@dataclass(frozen=True, kw_only=True)
class PruneChannels(Pass):
    """Remove whole channels, from all layers that make or read them.

        x -> Conv(64) -> Relu -> Conv(64) -> y  becomes  x -> Conv(40) -> Relu -> Conv(64) -> y

    Channels that are added to each other, multiplied, joined or split can only go together: such
    groups are found over the whole graph, whatever operators lie between (``graphopt inspect
    --groups`` shows them). What is left is an ordinary, narrower model, faster on every runtime.
    Inputs and outputs keep their shapes.

    One budget says how much: ``macs``, ``params``, ``bytes`` or ``latency`` to keep, or the
    ``share`` of the channels to remove; without any it is half of the MACs. For ``latency`` every
    layer is timed on this machine at other widths (``form=int8``: as the integer kernel that it
    will be), branches of residual blocks may go altogether, and the pruned model is timed against
    the original before it is kept. Who goes is told by the ``criterion``:

        error       squared error of all layers that read the group, once the weights of what is
                    left are solved anew; units go one by one, the one that costs least first
        energy      what a channel adds to the outputs of these layers, each by itself
        activation  the energy of the channel itself
        l1, l2, median, batchnorm   weights of the layers that make it, or its scale
        taylor      (g w)^2 by the gradient g of the loss; needs torch
        random      nothing: what a criterion has to beat

    Recurrent layers and an Einsum keep their weights: with ``error`` they count with what a channel
    adds to their sums by itself. What no layer with a weight sums over goes by ``l2`` of what makes
    it. Both are told with the group.

    How much each group gives: with ``allocation=sensitivity`` each is cut to three widths on its
    own, the answers are compared, and then the group gives whose loss hurts the answers least for
    what it saves. What groups do alone does not add up, so ``tries`` choices of all widths are
    tried, with the layers solved again in a hurry, each by what those before it tell of every
    group, and the best is taken; of models so large that this would take minutes fewer or none are
    tried. ``global`` goes by the error of the layers behind a group relative to their outputs,
    without regard to what the answers make of it; ``uniform`` takes the same share of all. Where
    samples are asked for, the layers that read a group make up for what went as well as they can,
    and their biases take up its mean. Put reconstruct-weights behind it, which solves all layers
    again on what is really left, and any quantize pass behind that.

    What goes is a channel, a neuron or an attention head, with its rows and columns in all
    projections. ``units`` takes one kind alone, so that each may give another share:

        prune-channels{units=channels,share=0.25}, prune-channels{units=heads,share=0.17}

    Widths are multiples of ``round_to``; by default of 16 where a group is wider than 64, else of
    4: convolutions on CPUs are slower at other widths than at the next multiple of 4, and gain by
    blocks of 8 or 16 channels; a head counts with all its channels. With ``latency`` the times
    decide.
    Source: Hassibi and Stork 1993, Optimal Brain Surgeon, by blocks (error); Li et al. 2017 (l1);
    He et al. 2019 (median); Liu et al. 2017, Network Slimming (batchnorm); Molchanov et al. 2019
    (taylor); Fang et al. 2023, DepGraph, for groups.
    """

    macs: KeptShare = None
    params: KeptShare = None
    bytes: KeptShare = None
    share: Annotated[
        float | None,
        Option("share of the channels to remove", low=0, high=1, low_open=True, high_open=True),
    ] = None
    latency: KeptShare = None
    form: Annotated[Form, Option("what layers will compute in, for latency")] = "float"
    criterion: Annotated[Criterion, Option("what decides which channels go")] = "error"
    allocation: Annotated[
        Literal["sensitivity", "global", "uniform"], Option("how the groups share the loss")
    ] = "sensitivity"
    round_to: Annotated[
        int | None,
        Option("widths are multiples of this; without it, of 4 or 16", low=1, high=1024),
    ] = None
    max_share: Annotated[
        float, Option("most of a group that may go", low=0, high=1, high_open=True)
    ] = 0.9
    units: Annotated[
        Literal["all", "heads", "channels"],
        Option("what goes: attention heads, channels and neurons, or both"),
    ] = "all"
    rows: Annotated[int, Option("rows of each layer to judge by", low=64)] = 32768
    samples: Annotated[int, Option("samples that say what the answers suffer", low=1)] = 128
    tries: Annotated[
        int, Option("choices of all widths to try together, with layers solved again", low=0)
    ] = 24
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    requires = (
        Unquantized(),
        CalibrationSamples(when=When("criterion", ("error", "energy", "activation"))),
        CalibrationSamples(when=When("allocation", "sensitivity")),
        TrainingSamples("to take gradients on", when=When("criterion", "taylor")),
        TimingSamples(when=When("latency", None, equal=False)),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        at_most_one(self.name, {each: getattr(self, each) for each in BUDGETS})

    def run(self, graph: Graph, context: Context) -> Changes:
        units = "heads" if self.units == "heads" else "channels"
        changes = Changes(nothing=f"no group of {units} can get narrower")
        before = graph.copy()
        unshare_vectors(graph)
        model = self._model(graph, context, changes)
        cuts, left = self._cuts(model, changes)
        if cuts:
            changes.kept = cut_out(graph, model.shapes, cuts, model.known)
        else:
            graph.become(before)
        why = why_no_more(model.ways, cuts, units, changes.skips)
        changes.missed = self.budget.missed(left, why)
        if model.ways:
            kept = "the model keeps to the budget already"
            changes.nothing = kept if changes.missed is None else changes.missed.reason
        for name, words in narrowed(model, cuts):
            changes.edit(name, words)
        return changes

    @property
    def budget(self) -> ChannelBudget:
        """The budget that was given, or half of the MACs."""
        for kind in BUDGETS:
            if (value := getattr(self, kind)) is not None:
                return ChannelBudget(kind, value)
        return ChannelBudget("macs", 0.5)

    def _once(self, context: Context, what: str, make: Callable[[], T]) -> T:
        """What does not depend on how much may be left is found once for all budgets of a kind."""
        free = replace(self, macs=None, params=None, bytes=None, share=None, latency=None)
        return context.findings.once((free, self.budget.kind, what), make)

    def _model(self, graph: Graph, context: Context, changes: Changes) -> Narrowable:
        """The model with the ways in which it may get narrower.

        Args:
            graph: It is edited later, so the model is a copy.
            context: Of the pass.
            changes: Notes the reasons of groups that cannot get narrower.
        """
        whole = self._once(context, "graph", graph.copy)
        shapes = self._once(context, "shapes", lambda: run_shapes(whole, context))
        groups, fixed = self._once(context, "groups", lambda: self._groups(whole, shapes))
        known = self._known(graph, groups, shapes, context)
        free = Narrowable(whole, context, shapes, (), known)
        ways, refused = self._once(context, "ways", lambda: self._ways(free, groups))
        changes.skips += [*fixed, *refused]
        return replace(free, ways=ways)

    def _cuts(self, model: Narrowable, changes: Changes) -> tuple[list[Cut], float]:
        """What goes, which is told in figures, and what that leaves of the original's costs."""
        budget = self._costs(model)
        if not model.ways or budget.now <= self.budget.most:
            return [], budget.now
        alone = curves = self._once(model.context, "curves", lambda: self._curves(model))
        if self.allocation == "sensitivity":
            most = budget.most(self.budget.most)
            curves = corrected_curves(model, alone, budget.cost, most, self.tries)
        share_out = even_widths if self.allocation == "uniform" else allocate

        def within(most: float) -> list[Cut]:
            return model.cuts(share_out(curves, budget.cost, most))

        cuts, left = budget.kept(within, self.budget.most)
        shown = alone if self.allocation == "sensitivity" else ()
        changes.taken = taken(model, cuts, shown, self.criterion)
        return cuts, left

    def _costs(self, model: Narrowable) -> Costs:
        if self.budget.kind == "latency":
            bare = replace(model, known={})  # which are not to be held on to
            return self._once(model.context, "times", lambda: TimeBudget(bare, self.form))
        return SizeBudget(model, self.budget.kind)

    def _ordering(self, model: Narrowable, groups: Sequence[ChannelGroup]) -> Ordering:
        """What says who goes first."""
        graph, context, shapes, known = model.graph, model.context, model.shapes, model.known
        slopes = slopes_of(graph, groups, context, self.name) if self.criterion == "taylor" else {}
        energies: Energies = {}
        if self.asks(CalibrationSamples):
            energies = input_energies(groups, known, shapes, context.observe, self.rows)
        return Ordering(self.criterion, graph, shapes, known, context.rng, energies, slopes)

    def _curves(self, model: Narrowable) -> list[Curve]:
        if self.allocation == "sensitivity":
            return measured_curves(model, self.samples)
        return plain_curves(model.ways)

    def _ways(
        self, model: Narrowable, groups: Sequence[ChannelGroup]
    ) -> tuple[list[Way], list[Skip]]:
        """How each group gets narrower, and the reasons of those that cannot."""
        ordering = self._ordering(model, groups)
        ways, refused = list[Way](), Changes()
        for group in groups:
            found = ordering.of(group)
            if isinstance(found, Refusal):
                refused.skip(found)
            else:
                way = self._way(group, found, model.graph, model.shapes)
                ways.append(replace(way, basis=ordering.basis(group)))
        return ways, refused.skips

    def _known(
        self, graph: Graph, groups: Sequence[ChannelGroup], shapes: Shapes, context: Context
    ) -> dict[str, LayerRows]:
        """What samples say of the layers that read the groups."""
        if not self.asks(CalibrationSamples):
            return {}
        layers = {each.node.output[0]: each for group in groups for each in group.consumers}
        real = RealRows(graph, context, shapes)
        return layer_rows(layers.values(), shapes, context.observe, self.rows, real)

    def _groups(self, graph: Graph, shapes: Shapes) -> tuple[list[ChannelGroup], list[Skip]]:
        """The groups that may lose units, and the reasons of the others."""
        kinds = {"all": (True, False), "heads": (True,), "channels": (False,)}[self.units]
        chosen = select(graph, self.nodes, self.exclude)
        channels, fixed = channel_groups(graph, shapes), Changes()
        for one in channels.fixed:
            if chosen(one.node):
                fixed.skip(one.node, one.reason)
        groups = [
            group
            for group in channels.groups
            if group.heads in kinds and all(chosen(layer.node) for layer in group.producers)
        ]
        return groups, fixed.skips

    def _way(self, group: ChannelGroup, units: Elimination, graph: Graph, shapes: Shapes) -> Way:
        if self.budget.kind != "latency":
            return Way(group, units, allowed_widths(group, self.round_to, self.max_share))
        branch = branch_of(group, graph, shapes)
        drops = branch is not None
        return Way(
            group, units, timed_widths(group, self.round_to, self.max_share, drops=drops), branch
        )

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example("cnn", {"macs": 0.7, "round_to": 1})
        weights: tuple[Criterion, ...] = ("l1", "l2", "median", "random", "taylor")
        return [
            plain.but(tries=3),
            plain.but(criterion="energy", rows=128, samples=2),
            plain.but(criterion="activation", allocation="global"),
            plain.but(criterion="batchnorm", max_share=0.5, macs=0.8),
            *(plain.but(criterion=each, allocation="uniform") for each in weights),
            Example("cnn", {"round_to": 2, "params": 0.7}),
            Example(wide_model, {"latency": 0.9, "form": "int8", "round_to": 32, "max_share": 0.5}),
            Example("mlp", {"bytes": 0.8, "round_to": 1}),
            Example("mlp", {"share": 0.25, "round_to": 1, "exclude": ("Gelu",)}),
            Example("mlp", {"share": 0.25, "round_to": 1, "nodes": ("Gemm",), "units": "channels"}),
            Example(heads_model, {"share": 0.25, "units": "heads"}),
        ]
