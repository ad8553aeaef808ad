"""The pass ``scale-rows``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass, RowWidths
from graphopt.contract.preconditions import CalibrationSamples, MinOpset
from graphopt.contract.registry import register
from graphopt.facts.layers import Layer
from graphopt.families.chosen import Exclude, MinSize, Nodes
from graphopt.families.linear_readers import linear_readers
from graphopt.graph.graph import Graph
from graphopt.numerics.smoothing import row_gain_db
from graphopt.rewrite.scaling import divide_rows

__all__ = ["ScaleRows"]

_SAMPLES = 32
_LEAST_GAIN_DB = 0.01  # less is rounding


@register("scale-rows")
@dataclass(frozen=True, kw_only=True)
class ScaleRows(Pass):
    """Bring each row of an activation to the same size, so that one scale fits every token.

        x -> MatMul(W) -> y      becomes      x -> Div(r) -> MatMul(W) -> Mul(r) -> y

        with r = ReduceMax(Abs(x)) over the last axis

    Exact in float arithmetic; it pays once the layers are quantized. Decoders have a few tokens,
    often the first, that are a hundred times as large as the others behind a gated unit, and one
    scale for the whole tensor leaves the others few codes. With r taken out each token has, in
    effect, a scale of its own. It is done where the expected SQNR of a layer, the mean over the
    rows of the calibration samples, rises by enough. Put it behind smooth-activations and before
    quantize-dynamic or quantize-static.

    Source: Yao et al. 2022, ZeroQuant: Efficient and Affordable Post-Training Quantization for
    Large-Scale Transformers, section 4.1 (token-wise quantization).
    """

    min_gain: Annotated[
        float, Option("expected gain from which on it is done", low=0, unit="dB")
    ] = 3.0
    min_size: MinSize = 1024
    nodes: Nodes = ()
    exclude: Exclude = ()
    may_grow: ClassVar[str] = "it adds a few small constants"
    requires = (MinOpset("Max", 8), CalibrationSamples())

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        groups = linear_readers(graph, self.nodes, self.exclude, self.min_size, changes)
        requests = {tensor: RowWidths(tensor) for tensor in groups}
        widths = context.observe(requests.values(), limit=_SAMPLES)
        for tensor, group in groups.items():
            adding = [layer for layer in group if layer.adds]
            for layer in adding:
                changes.skip(layer.node, "it adds a bias itself")
            free = [layer for layer in group if not layer.adds]
            if not free:
                continue
            weight = np.concatenate([layer.matrix() for layer in free], axis=1)
            gain = row_gain_db(widths[requests[tensor]], weight)
            if not gain >= max(self.min_gain, _LEAST_GAIN_DB):
                self._skip(changes, free, gain)
                continue
            for layer in free:
                changes.edit(
                    layer.node,
                    f"each row of {tensor} divided by its largest value; "
                    f"expected SQNR rises by {gain:.1f} dB",
                )
            divide_rows(graph.main, tensor, [layer.node for layer in free])
        return changes

    def _skip(self, changes: Changes, layers: list[Layer], gain: float) -> None:
        for layer in layers:
            changes.skip(layer.node, f"would gain {gain:.1f} dB, min_gain is {self.min_gain:g}")

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example("decoder")
        return [
            plain,
            plain.but(min_gain=1.0, min_size=0),
            plain.but(nodes=("MatMul(down)", "matmul_*")),
            plain.but(exclude=("Gemm",)),
        ]
