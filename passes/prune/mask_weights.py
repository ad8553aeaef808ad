"""Pass ``mask-weights``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import TrainingSamples, Unquantized, When
from graphopt.contract.registry import register
from graphopt.contract.training import NMPattern, Reach, Sparsity
from graphopt.errors import PassError, UsageError
from graphopt.facts.select import select
from graphopt.facts.weights import WeightGroup
from graphopt.families.chosen import Exclude, MinSize, Nodes
from graphopt.families.masking import (
    gradient_scores,
    input_axis,
    prunable,
    zeros_of,
)
from graphopt.graph.graph import Graph
from graphopt.graph.sparse_tensors import sparse_bytes
from graphopt.graph.tensors import Array
from graphopt.numerics import scores
from graphopt.numerics.scores import PATTERNS
from graphopt.rewrite.sparse import store_sparse

__all__ = ["MaskWeights"]

_GLOBAL_BYTES = 512 << 20


@register("mask-weights")
@dataclass(frozen=True, kw_only=True)
class MaskWeights(Pass):
    """Set the weights to zero that matter least (unstructured or N:M pruning).

        x -> Conv(W) -> y      becomes      x -> Conv(W * mask) -> y

    Nodes, names and shapes stay. Counted within each layer (``scope=local``) or over all chosen
    layers together (``global``), by a fixed ``threshold``, or in an N:M ``pattern``. Weights that
    are zero already count, so running it again changes nothing.

    What matters is told by the magnitude, or by the gradient g of the loss on samples: the mean
    over batches of ``(g * w)^2`` (``taylor``) or ``|g * w|`` (``snip``), against labels or, without
    them, against answers that the model itself might give, as its own outputs leave no gradient.
    Gradients see what the data leaves unused, magnitudes do not; but they judge each weight alone,
    so try magnitude first: at half of the weights of a small residual network it kept 90 % of the
    answers, ``taylor`` 72 %.

    The file shrinks once it is compressed, or at once with ``storage=sparse`` where that is
    smaller: below a third of the weights for float32. It runs faster only on a runtime with sparse
    kernels, which onnxruntime has not. Put it before any quantize pass and behind those
    that make other weights, such as factorize-matmul. Passes that change a weight
    which is stored sparse store it so again where that is smaller.

    Source: Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks;
    Molchanov et al. 2019, Importance Estimation for Neural Network Pruning; Theis et al. 2018,
    Faster gaze prediction with dense networks and Fisher pruning; Lee et al. 2019, SNIP.
    """

    sparsity: Sparsity = 0.5
    threshold: Annotated[
        float | None, Option("zero what is smaller than this, instead of a share", low=0)
    ] = None
    pattern: NMPattern = "none"
    criterion: Annotated[
        Literal["magnitude", "taylor", "snip"],
        Option("what decides who goes; the others than magnitude need torch and samples"),
    ] = "magnitude"
    scope: Reach = "local"
    min_size: MinSize = 256
    nodes: Nodes = ()
    exclude: Exclude = ()
    storage: Annotated[
        Literal["dense", "sparse"], Option("how to store what was masked, where that is smaller")
    ] = "dense"
    lossy: ClassVar[bool] = True
    requires = (
        Unquantized(),
        TrainingSamples("to take gradients on", when=When("criterion", "magnitude", equal=False)),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is not None and self.pattern != "none":
            raise UsageError(f"{self.name}: give a threshold or a pattern, not both")
        if self.threshold is not None and self.criterion != "magnitude":
            raise UsageError(
                f"{self.name}: a threshold is one of magnitudes; criterion={self.criterion} takes "
                "a share or a pattern"
            )

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        pattern = PATTERNS[self.pattern]
        chosen = select(self.nodes, self.exclude)
        layers = prunable(graph, chosen, self.min_size, pattern, changes)
        held = sum(layer.constant.nbytes for layer in layers)
        competing = self.scope == "global" and self.threshold is None and pattern is None
        if competing and held > _GLOBAL_BYTES:
            raise PassError(
                f"scope=global compares {held >> 20} MB of weights at once, more than "
                f"{_GLOBAL_BYTES >> 20} MB; use scope=local or a threshold"
            )
        ranks = self._ranks(graph, context, layers)
        for layer, keep in zip(layers, self._masks(layers, ranks), strict=True):
            values = layer.constant.values
            masked = np.where(keep, values, np.zeros((), values.dtype))
            if (masked != values).any():
                layer.constant.set(masked)
                changes.edit(layer.name, zeros_of(masked))
            else:
                changes.skip(layer.name, "it has the zeros that are asked for already")
            if self.storage == "sparse":
                _store_sparse(layer, masked, changes)
        return changes

    def _ranks(
        self, graph: Graph, context: Context, layers: Sequence[WeightGroup]
    ) -> Iterator[Array]:
        """How much the elements of each weight matter; magnitudes are made one at a time."""
        if self.criterion == "magnitude":
            yield from (scores.magnitudes(layer.constant.values) for layer in layers)
        else:
            yield from gradient_scores(graph, context, layers, self.criterion, self.name)

    def _masks(
        self, layers: Sequence[WeightGroup], ranks: Iterator[Array]
    ) -> Iterator[NDArray[np.bool_]]:
        """What stays of each layer's weight; masks that do not compete are made one at a time."""
        pattern = PATTERNS[self.pattern]
        if self.threshold is not None:
            for layer in layers:
                yield scores.threshold_mask(layer.constant.values, self.threshold)
        elif pattern is not None:
            for layer, rank in zip(layers, ranks, strict=True):
                yield scores.pattern_mask(rank, pattern, input_axis(layer))
        elif self.scope == "local":
            for rank in ranks:
                yield scores.lowest_masks([rank], scores.zero_count(rank.size, self.sparsity))[0]
        else:
            together = list(ranks)
            size = sum(rank.size for rank in together)
            yield from scores.lowest_masks(together, scores.zero_count(size, self.sparsity))

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example("mlp")
        return [
            plain.but(sparsity=0.9, storage="sparse"),
            plain.but(scope="global", min_size=0),
            plain.but(threshold=0.1, nodes=("Gemm",)),
            *(plain.but(pattern=each) for each in PATTERNS),
            plain.but(criterion="taylor", exclude=("Gemm",)),
            plain.but(criterion="snip", scope="global"),
        ]


def _store_sparse(layer: WeightGroup, values: Array, changes: Changes) -> None:
    constant = layer.constant
    if constant.sparse is not None:
        return
    dense, sparse = values.nbytes, sparse_bytes(values)
    if constant.node is not None:
        changes.skip(layer.name, "stays dense: it is stored in a Constant node")
    elif not values.any() or sparse >= dense:
        changes.skip(layer.name, "stays dense: sparse takes no less bytes")
    else:
        store_sparse(constant.scope, constant.origin, values)
        changes.edit(layer.name, f"stored sparse: {sparse} bytes in place of {dense}")
