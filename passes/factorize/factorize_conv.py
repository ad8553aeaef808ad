"""Pass ``factorize-conv``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from onnx import NodeProto, helper

from graphopt.errors import PassError
from graphopt.graph import ops
from graphopt.graph.graph import Graph, label
from graphopt.graph.select import select
from graphopt.graph.values import drop_unread
from graphopt.graph.weights import Layer, WeightGroup, half_of_product, weight_groups
from graphopt.numerics.lowrank import Budget
from graphopt.numerics.lowrank_conv import ConvFactors, Scheme, factorize_conv
from graphopt.pipeline.budget import low_rank_budget
from graphopt.pipeline.contract import Changes, Context, Option, Pass
from graphopt.pipeline.registry import register

__all__ = ["FactorizeConv"]

_SCHEMES: dict[str, tuple[Scheme, ...]] = {
    "auto": ("spatial", "channel"),
    "spatial": ("spatial",),
    "channel": ("channel",),
}


@register("factorize-conv")
@dataclass(frozen=True, kw_only=True)
class FactorizeConv(Pass):
    """Replace a Conv by two cheaper ones in a row (truncated SVD of its weight).

        x -> Conv(k x k) -> y    becomes    x -> Conv(k x 1, r channels) -> Conv(1 x k) -> y
                                 or         x -> Conv(k x k, r channels) -> Conv(1 x 1) -> y

    ``auto`` takes for each layer the scheme that loses less energy per MAC saved. The rank r
    follows from one budget: a fixed ``rank``, the ``energy`` to keep (share of the squared singular
    values) or the ``macs`` to keep (share of the layer's). Without any of them energy is 0.95. A
    layer that would not get cheaper stays as it is; so do grouped and depthwise ones, whose
    weights are small already. The bias stays on the second Conv, which keeps name and output of the
    layer. Put it before any quantize pass.
    Source: Jaderberg et al. 2014, Speeding up Convolutional Neural Networks with Low Rank
    Expansions (spatial); Zhang et al. 2015, Accelerating Very Deep Convolutional Networks for
    Classification and Detection (channel).
    """

    rank: Annotated[int | None, Option("rank of every layer", low=1)] = None
    energy: Annotated[
        float | None, Option("share of energy to keep", low=0, high=1, low_open=True)
    ] = None
    macs: Annotated[
        float | None, Option("share of MACs to keep", low=0, high=1, low_open=True, high_open=True)
    ] = None
    scheme: Annotated[
        Literal["auto", "spatial", "channel"], Option("which two convolutions to make of one")
    ] = "auto"
    min_size: Annotated[int, Option("leave smaller weights alone", low=0, unit="elements")] = 1024
    nodes: Annotated[
        tuple[str, ...], Option("only nodes of these names or types", patterns=True)
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Option("no nodes of these names or types", patterns=True)
    ] = ()
    lossy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._budget()

    def _budget(self) -> Budget:
        return low_rank_budget(self.name, self.rank, self.energy, self.macs)

    def check(self, graph: Graph, context: Context) -> None:
        done = [node for scope in graph.scopes() for node in ops.integer_weights(scope)]
        if done:
            raise PassError(f"{len(done)} nodes are quantized already; factorize earlier")

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        chosen = select(graph, self.nodes, self.exclude)
        for group in weight_groups(graph, chosen, ("Conv",), self.min_size):
            reason = group.reason or _reason(group)
            if reason:
                changes.skip(group.name, reason)
                continue
            values = group.constant.values
            strides = _strides(group.layers[0])
            found = factorize_conv(values, self._budget(), strides, _SCHEMES[self.scheme])
            if found is None:
                changes.skip(group.name, self._too_dear(values.shape))
            else:
                _replace(group, found, changes)
        return changes

    def _too_dear(self, shape: tuple[int, ...]) -> str:
        if self.scheme == "spatial" and not (len(shape) == 4 and min(shape[2:]) > 1):
            return f"a kernel of {list(shape[2:])} cannot be split into k x 1 and 1 x k"
        budget = self._budget()
        return f"no rank within {budget.kind} {budget.value:g} makes it cheaper"


def _strides(layer: Layer) -> list[int]:
    axes = len(layer.weight.constant.shape) - 2
    return list(ops.attribute(layer.node, "strides", [])) or [1] * axes


def _reason(group: WeightGroup) -> str:
    """Why the form of the layers does not allow it; empty where it does."""
    if any(layer.weight.groups > 1 for layer in group.layers):
        kind = "depthwise" if ops.depthwise(group.layers[0].weight) else "grouped"
        return f"it is {kind}, and only plain convolutions are factorized"
    if len({tuple(_strides(layer)) for layer in group.layers}) > 1:
        return "layers of different strides share its weight"
    for layer in group.layers:
        rank = half_of_product(layer)
        if rank is not None:
            return f"it is one half of a product of rank {rank} already"
    if not np.isfinite(group.constant.values).all():
        return "its weight is not finite"
    return ""


def _replace(group: WeightGroup, found: ConvFactors, changes: Changes) -> None:
    home, origin = group.constant.scope, group.constant.origin
    kind = group.constant.values.dtype
    first = home.add_constant(f"{origin}_first", found.first.astype(kind))
    second = home.add_constant(f"{origin}_second", found.second.astype(kind))
    for layer in group.layers:
        _split(layer, found, first, second)
        changes.edit(
            layer.node,
            f"{found.scheme}, rank {found.rank}: keeps {found.energy:.1%} of the energy "
            f"at {found.macs_share:.0%} of the MACs",
        )
    drop_unread(home, [origin])


def _split(layer: Layer, found: ConvFactors, first: str, second: str) -> None:
    """Put the first convolution in front of the layer, which becomes the second."""
    scope, node = layer.scope, layer.node
    before, after = _attributes(layer, found)
    hidden = scope.graph.unique_name(f"{node.output[0]}_rank")
    name = scope.graph.unique_name(f"{label(node)}_first")
    added = helper.make_node("Conv", [node.input[0], first], [hidden], name, **before)
    old = node.input[1]
    scope.add(added, before=node)
    scope.set_input(node, 0, hidden)
    scope.set_input(node, 1, second)
    _set_attributes(node, after)
    drop_unread(scope, [old])


def _attributes(layer: Layer, found: ConvFactors) -> tuple[dict[str, Any], dict[str, Any]]:
    """Kernel, strides, pads and dilations of both convolutions.

    Spatial: each strides, pads and dilates along its own axis; the second pads what the first
    made, which is exact because the first has no bias and so turns zeros into zeros.
    """
    node, axes = layer.node, found.first.ndim - 2
    strides = _strides(layer)
    dilations = list(ops.attribute(node, "dilations", [])) or [1] * axes
    pads = list(ops.attribute(node, "pads", [])) or [0] * (2 * axes)
    auto = ops.attribute(node, "auto_pad", "NOTSET")
    kernels = list(found.first.shape[2:]), list(found.second.shape[2:])
    made: list[dict[str, Any]] = []
    for index, kernel in enumerate(kernels):
        if found.scheme == "channel":
            own = [index == 0] * axes
        else:
            own = [axis == index for axis in range(axes)]
        given: dict[str, Any] = {
            "kernel_shape": kernel,
            "strides": [s if o else 1 for s, o in zip(strides, own, strict=True)],
            "dilations": [d if o else 1 for d, o in zip(dilations, own, strict=True)],
        }
        if auto == "NOTSET":
            given["pads"] = [p if o else 0 for p, o in zip(pads, own * 2, strict=True)]
        else:
            given["auto_pad"] = auto
        made.append(given)
    return made[0], made[1]


def _set_attributes(node: NodeProto, given: dict[str, Any]) -> None:
    kept = [item for item in node.attribute if item.name not in (*given, "pads", "auto_pad")]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())
