"""The pass ``correct-bias``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.integer_layers import IntegerLayer, integer_layers, set_integer_bias
from graphopt.errors import PassError
from graphopt.graph.graph import Graph, label
from graphopt.pipeline.contract import Changes, ChannelMean, Context, Option, Pass
from graphopt.pipeline.registry import register

__all__ = ["CorrectBias"]

_RIGHT_ALREADY = 1e-3


@register("correct-bias")
@dataclass(frozen=True, kw_only=True)
class CorrectBias(Pass):
    """Move the mean of every quantized layer's output back to that of the float model.

        DQ(x) -> Conv(W', b) -> y'     becomes     DQ(x) -> Conv(W', b + E[y] - E[y']) -> y'

    Rounding shifts the mean of a layer's output, channel by channel, and the layers behind add
    the shifts up. The means are taken on calibration samples, layer after layer, so that each
    layer is corrected behind inputs that are corrected already. Only biases change: the file
    gets neither larger nor slower.

    Put it behind quantize-static. Source: Nagel et al. 2019, Data-Free Quantization Through
    Weight Equalization and Bias Correction, section 4.2 and appendix D (empirical form).
    """

    samples: Annotated[int, Option("calibration samples to take means over", low=1)] = 64
    lossy: ClassVar[bool] = True
    repairs: ClassVar[bool] = True
    needs_samples: ClassVar[bool] = True

    def check(self, graph: Graph, context: Context) -> None:
        if next(integer_layers(graph.main), None) is None:
            raise PassError("there is no layer with integer weights; put quantize-static before it")

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        layers, wanted = [], {}
        float_nodes = {label(node): node for node in context.reference.main.nodes}
        for layer in integer_layers(graph.main):
            original = None if layer.adder is None else float_nodes.get(label(layer.adder))
            if layer.adder is None:
                changes.skip(layer.node, "no node behind it adds a bias")
            elif original is None:
                changes.skip(layer.node, "the float model has no node of that name")
            else:
                wanted[label(layer.node)] = ChannelMean(original.output[0], layer.out_axis)
                layers.append(layer)
        means = context.observe(context.reference, wanted.values(), limit=self.samples)
        walk = context.walk(graph, self.samples)
        for layer in layers:
            assert layer.adder is not None
            now = walk.channel_mean(layer.adder.output[0], layer.out_axis)
            shift = means[wanted[label(layer.node)]] - now
            if np.abs(shift).max() <= _RIGHT_ALREADY * np.abs(now).max():
                changes.skip(layer.node, "its mean is right already")
                continue
            _add(graph, layer, shift)
            changes.edit(layer.node, f"bias moved by up to {np.abs(shift).max():.3g}")
        return changes


def _add(graph: Graph, layer: IntegerLayer, shift: NDArray[np.float64]) -> None:
    """Add a shift ``(out,)`` to the bias of a layer, on the layer's own int32 grid."""
    assert layer.adder is not None
    scale = np.asarray(layer.weight_scale * np.float32(layer.input_scale))
    if layer.bias is None:
        set_integer_bias(graph.main, layer.adder, layer.bias_index, shift, scale)
        return
    limits = np.iinfo(np.int32)
    codes = layer.bias.values.astype(np.float64) + np.rint(shift / scale)
    graph.main.set_constant(layer.bias, codes.clip(limits.min, limits.max).astype(np.int32))
