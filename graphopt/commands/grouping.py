"""The coupled channels of a model, for ``graphopt inspect``."""

from __future__ import annotations

from graphopt.analysis.channels import ChannelGroup, Fixed, channel_groups
from graphopt.contract import registry
from graphopt.contract.preconditions import Unquantized
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.report.findings import FixedChannels, Grouping, GroupShare
from graphopt.rewrite.unshare import unshare_vectors
from graphopt.run.drive import drive
from graphopt.run.means import Means
from graphopt.run.sizing import sized_run
from graphopt.run.stage import Stage

__all__ = ["grouping"]


def grouping(graph: Graph, means: Means) -> Grouping:
    """What goes together in a model once its constants are folded.

    Args:
        graph: Left as it is.
        means: What the run of fold-constants measures with.
    """
    outcome = drive(registry.find("fold-constants")(), Stage(graph, means), means, until="edit")
    folded = outcome.stage.graph.copy()
    unshare_vectors(folded)
    found = channel_groups(folded, sized_run(folded).shapes)
    return Grouping(
        groups=[_share(group) for group in found.groups],
        fixed=_collapsed(found.fixed),
        params=found.share.params,
        macs=found.share.macs,
        of_params=found.whole.params,
        of_macs=found.whole.macs,
        refused=Unquantized().fault(graph),
    )


def _share(group: ChannelGroup) -> GroupShare:
    return GroupShare(
        name=group.name,
        size=group.size,
        heads=group.heads,
        params=group.share.params,
        macs=group.share.macs,
        producers=[label(layer.node) for layer in group.producers],
        consumers=[label(layer.node) for layer in group.consumers],
    )


def _collapsed(fixed: tuple[Fixed, ...]) -> list[FixedChannels]:
    """One entry a reason, in order of the first layer."""
    entries: dict[str, FixedChannels] = {}
    for each in fixed:
        entry = entries.setdefault(each.reason, FixedChannels(each.reason, each.at, []))
        entry.layers.append(label(each.node))
    return sorted(entries.values(), key=lambda entry: -len(entry.layers))
