"""Pass ``factorize-conv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option
from graphopt.contract.registry import register
from graphopt.facts.layers import Refusal
from graphopt.facts.select import select
from graphopt.facts.weights import WeightGroup, rank_of_product, weight_groups
from graphopt.families.chosen import Exclude, MinSize, Nodes
from graphopt.families.low_rank import Inputs, LowRank, inputs_of
from graphopt.graph.graph import Graph
from graphopt.numerics.lowrank_conv import ConvFactors, Scheme, applies, compose
from graphopt.numerics.lowrank_forms import factorize_conv
from graphopt.rewrite.conv_chain import PLACES, Link, fits_kernel, replace_conv, strides
from graphopt.rewrite.values import drop_unread

__all__ = ["FactorizeConv"]

_SCHEMES: dict[str, tuple[Scheme, ...]] = {
    "auto": ("spatial", "channel"),
    "spatial": ("spatial",),
    "channel": ("channel",),
    "tucker": ("tucker",),
    "cp": ("cp",),
}


@register("factorize-conv")
@dataclass(frozen=True, kw_only=True)
class FactorizeConv(LowRank):
    """Replace a Conv by two or three cheaper ones in a row.

        x -> Conv(k x k) -> y  becomes, by scheme, x -> ... -> y with
            spatial   Conv(k x 1, r channels) -> Conv(1 x k)
            channel   Conv(k x k, r channels) -> Conv(1 x 1)
            tucker    Conv(1 x 1, r channels) -> Conv(k x k, s channels) -> Conv(1 x 1)
            cp        Conv(1 x 1, r channels) -> depthwise Conv(k x k) -> Conv(1 x 1)

    With calibration samples the factors lose as little as can be of the *outputs* on them, told by
    the Gram matrix of what the layer reads: in closed form for channel, by weighted alternating
    least squares for the others. Without samples they lose as little as can be of the weights,
    which costs far more accuracy: a ResNet-20 at half of its MACs keeps 75 against 52 % top-1,
    untrained (81 before).

    The rank r follows from one budget: a fixed ``rank``, the ``energy`` to keep (share of the sum
    of squares of the output, or without samples of the weight) or the ``macs`` to keep (share of
    the layer's). Without any of them energy is 0.95. A layer that would not get cheaper stays as it
    is; so do grouped and depthwise ones, whose weights are small already. The bias stays on the
    last Conv, which keeps name and output of the layer. Put it before any quantize pass.

    ``auto`` takes for each layer spatial or channel, whichever loses less energy per MAC saved.
    tucker and cp have to be asked for, and want training afterwards. tucker keeps more energy than
    those two mostly below a third of the MACs; where a rank comes out as all channels, that 1 x 1
    is left out. cp loses by far the least energy per MAC (ResNet-20 at half of the MACs, untrained:
    top-1 79 against 75 of auto, with samples), but its many thin channels run slower on a CPU than
    the layer did, so it serves size and MACs, not latency. It is searched by alternating least
    squares: half a minute for a layer of 256 channels, eight times that for twice as many. The 2-D
    depthwise Conv in its middle loses less per MAC than k x 1 and 1 x k would.
    Source: Jaderberg et al. 2014, Speeding up Convolutional Neural Networks with Low Rank
    Expansions (spatial); Zhang et al. 2015, Accelerating Very Deep Convolutional Networks for
    Classification and Detection (channel); Kim et al. 2016, Compression of Deep Convolutional
    Neural Networks for Fast and Low Power Mobile Applications (tucker); Lebedev et al. 2015,
    Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition (cp). For outputs in
    place of weights: Zhang et al. 2015, section 3.1.
    """

    scheme: Annotated[
        Literal["auto", "spatial", "channel", "tucker", "cp"],
        Option("which convolutions to make of one"),
    ] = "auto"
    min_size: MinSize = 1024
    nodes: Nodes = ()
    exclude: Exclude = ()

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        chosen = select(self.nodes, self.exclude)
        seed = int(context.rng.integers(2**32))
        groups = []
        for group in weight_groups(graph, chosen, ("Conv",)):
            if refusal := group.refusal(self.min_size) or _refusal(group):
                changes.skip(refusal)
            else:
                groups.append(group)
        for group, read in zip(groups, inputs_of(groups, graph, context), strict=True):
            values = group.layers[0].weight.values()
            moved = strides(group.layers[0].node, values.ndim - 2)
            gram = None if read is None else read.gram
            found = factorize_conv(values, self.budget, moved, _SCHEMES[self.scheme], seed, gram)
            if found is None:
                changes.skip(group.name, self._too_dear(values.shape))
            else:
                _replace(group, found, read, changes)
        return changes

    def _too_dear(self, shape: tuple[int, ...]) -> str:
        kernel = list(shape[2:])
        if self.scheme != "auto" and not applies(self.scheme, kernel):
            return f"a kernel of {kernel} has no {self.scheme} form"
        budget = self.budget
        return f"no rank within {budget.kind} {budget.value:g} makes it cheaper"

    @classmethod
    def examples(cls) -> Sequence[Example]:
        schemes = ("spatial", "channel", "tucker", "cp")
        return [
            Example("cnn"),
            *(Example("cnn", {"scheme": each, "macs": 0.4}) for each in schemes),
            Example("cnn", {"rank": 2, "nodes": ("conv_0",), "min_size": 0}),
            Example("cnn", {"energy": 0.8, "exclude": ("conv_0",)}),
        ]


def _refusal(group: WeightGroup) -> Refusal | None:
    """Why the form of the layers does not allow it; None where it does."""
    first, axes = group.layers[0], len(group.constant.shape) - 2
    for layer in group.layers:
        node = layer.node
        if layer.groups > 1:
            kind = "depthwise" if layer.depthwise else "grouped"
            return Refusal(node, f"it is {kind}, and only plain convolutions are factorized")
        if not fits_kernel(node, axes):
            return Refusal(node, "its strides, pads or dilations do not fit its kernel")
        if strides(node, axes) != strides(first.node, axes):
            return Refusal(node, "layers of different strides share its weight")
        if layer.weight.order != first.weight.order:
            return Refusal(node, "its weight is read with its axes in several orders")
        if rank_of_product(layer) is not None:
            return Refusal(node, "it is part of a low-rank product already")
    return first.refusal("finite")


def _replace(group: WeightGroup, found: ConvFactors, read: Inputs | None, changes: Changes) -> None:
    home, origin = group.constant.scope, group.constant.origin
    kind = group.constant.values.dtype
    weight = group.layers[0].weight.values().astype(np.float64)
    lost = (weight - compose(found.stages)).reshape(len(weight), -1).T
    links = [
        Link(
            home.add_constant(f"{origin}_{place}", stage.weight.astype(kind)),
            stage.weight.shape[2:],
            stage.axes,
            len(stage.weight) if stage.depthwise else 1,
        )
        for place, stage in zip(PLACES, found.stages, strict=False)
    ]
    if read is not None:
        read.rebias(group.layers, lost)
    ranks = " and ".join(map(str, found.ranks))
    for layer in group.layers:
        replace_conv(layer.scope, layer.node, links)
        changes.edit(
            layer.node,
            f"{found.scheme}, rank {ranks}: keeps {found.energy:.1%} of the energy "
            f"at {found.macs_share:.0%} of the MACs",
        )
    drop_unread(home, [origin])
