"""Pass ``mask-weights``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import PassError
from graphopt.graph import ops
from graphopt.graph.graph import Graph
from graphopt.graph.select import select
from graphopt.graph.sparse import sparse_bytes, store_sparse
from graphopt.graph.tensors import Array
from graphopt.graph.weights import WeightGroup, weight_groups
from graphopt.numerics import scores
from graphopt.pipeline.contract import Changes, Context, Option, Pass
from graphopt.pipeline.registry import register

__all__ = ["MaskWeights"]

_GLOBAL_BYTES = 512 << 20


@register("mask-weights")
@dataclass(frozen=True, kw_only=True)
class MaskWeights(Pass):
    """Set the smallest weights to zero (unstructured magnitude pruning).

        x -> Conv(W) -> y      becomes      x -> Conv(W * mask) -> y

    Nodes, names and shapes stay. Counted within each layer (``scope=local``) or over all chosen
    layers together (``global``), or by a fixed ``threshold``. Weights that are zero already count,
    so running it again changes nothing. The file shrinks once it is compressed, or at once with
    ``storage=sparse`` where that is smaller: below a third of the weights for float32. It runs
    faster only on a runtime with sparse kernels, which onnxruntime has not. Put it before any
    quantize pass; with sparse storage put it last, as other passes do not look into such weights.
    Source: Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks.
    """

    sparsity: Annotated[float, Option("share of the weights to be zero", low=0, high=1)] = 0.5
    threshold: Annotated[
        float | None, Option("zero what is smaller than this, instead of a share", low=0)
    ] = None
    scope: Annotated[
        Literal["local", "global"], Option("share of each layer, or of all layers together")
    ] = "local"
    min_size: Annotated[int, Option("leave smaller weights alone", low=0, unit="elements")] = 256
    nodes: Annotated[
        tuple[str, ...], Option("only nodes of these names or types", patterns=True)
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Option("no nodes of these names or types", patterns=True)
    ] = ()
    storage: Annotated[
        Literal["dense", "sparse"], Option("how to store what was masked, where that is smaller")
    ] = "dense"
    lossy: ClassVar[bool] = True

    def check(self, graph: Graph, context: Context) -> None:
        done = [node for scope in graph.scopes() for node in ops.integer_weights(scope)]
        if done:
            raise PassError(f"{len(done)} nodes are quantized already; put mask-weights earlier")

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        layers = []
        chosen = select(graph, self.nodes, self.exclude)
        for group in weight_groups(graph, chosen, min_size=self.min_size):
            if group.reason:
                changes.skip(group.name, group.reason)
            elif np.isnan(group.constant.values).any():
                changes.skip(group.name, "its weight holds NaN")
            else:
                layers.append(group)
        held = sum(layer.constant.nbytes for layer in layers)
        if self.scope == "global" and self.threshold is None and held > _GLOBAL_BYTES:
            raise PassError(
                f"scope=global compares {held >> 20} MB of weights at once, more than "
                f"{_GLOBAL_BYTES >> 20} MB; use scope=local or a threshold"
            )
        for layer, keep in zip(layers, self._masks(layers), strict=True):
            values = layer.constant.values
            masked = np.where(keep, values, np.zeros((), values.dtype))
            share = 1 - np.count_nonzero(masked) / masked.size
            if (masked != values).any():
                layer.constant.scope.set_constant(layer.constant, masked)
                changes.edit(layer.name, f"{share:.1%} of {masked.size} weights are zero")
            else:
                changes.skip(layer.name, f"{share:.1%} of {masked.size} weights are zero already")
            if self.storage == "sparse":
                _store_sparse(layer, masked, changes)
        return changes

    def _masks(self, layers: Sequence[WeightGroup]) -> Iterator[NDArray[np.bool_]]:
        """What stays of each layer's weight; local masks are made one at a time."""
        if self.threshold is not None:
            for layer in layers:
                yield scores.threshold_mask(layer.constant.values, self.threshold)
        elif self.scope == "local":
            for layer in layers:
                yield scores.magnitude_mask(layer.constant.values, self.sparsity)
        else:
            yield from scores.global_masks([x.constant.values for x in layers], self.sparsity)


def _store_sparse(layer: WeightGroup, values: Array, changes: Changes) -> None:
    constant = layer.constant
    dense, sparse = values.nbytes, sparse_bytes(values)
    if constant.node is not None:
        changes.skip(layer.name, "stays dense: it is stored in a Constant node")
    elif not values.any() or sparse >= dense:
        changes.skip(layer.name, f"stays dense: sparse takes {sparse} bytes, dense {dense}")
    else:
        store_sparse(constant.scope, constant.origin, values)
        changes.edit(layer.name, f"stored sparse: {sparse} bytes in place of {dense}")
