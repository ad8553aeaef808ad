"""The pass ``correct-bias``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, ChannelMean, Context, Option, Pass
from graphopt.contract.preconditions import CalibrationSamples
from graphopt.contract.registry import register
from graphopt.errors import PassError
from graphopt.facts.layers import Layer, layers
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.rewrite.integer_layers import bias_step, shift_quantized_bias

__all__ = ["CorrectBias"]

Step = NDArray[np.float32]
_RIGHT_ALREADY = 1e-3
"""Share of the largest mean of a layer that is not worth a change."""


@register("correct-bias")
@dataclass(frozen=True, kw_only=True)
class CorrectBias(Pass):
    """Move the mean of every quantized layer's output back to that of the float model.

        DQ(x) -> Conv(W', b) -> y'     becomes     DQ(x) -> Conv(W', b + E[y] - E[y']) -> y'

    Rounding shifts the mean of a layer's output, channel by channel, and the layers behind add
    the shifts up. The means are taken on calibration samples, layer after layer, so that each
    layer is corrected behind inputs that are corrected already. Where other lossy passes came
    first, the float model is the one that they left. Only biases change: the file
    gets neither larger nor slower.

    Put it behind quantize-static. Source: Nagel et al. 2019, Data-Free Quantization Through
    Weight Equalization and Bias Correction, section 4.2 and appendix D (empirical form).
    """

    samples: Annotated[int, Option("calibration samples to take means over", low=1)] = 64
    lossy: ClassVar[bool] = True
    joins: ClassVar[bool] = True
    must_help: ClassVar[bool] = True
    may_grow: ClassVar[str] = "a layer may get a bias"
    requires = (CalibrationSamples(),)

    def check(self, graph: Graph, context: Context) -> None:
        if not _integer_layers(graph):
            raise PassError("there is no layer with integer weights; put quantize-static before it")

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        corrected: list[tuple[Layer, Step, NodeProto, ChannelMean]] = []
        float_nodes = {label(node): node for node in context.unrounded.main.nodes}
        for layer, step in _integer_layers(graph):
            place = layer.bias_place
            if place is None:
                changes.skip(layer.node, "no node behind it adds a bias")
                continue
            original = float_nodes.get(label(place[0]))
            if original is None:
                changes.skip(layer.node, "the float model has no node of that name")
                continue
            wanted = ChannelMean(original.output[0], layer.result_axis)
            corrected.append((layer, step, place[0], wanted))
        requests = [wanted for *_, wanted in corrected]
        walk = context.walk(graph, self.samples)  # of fewer samples where memory is short
        means = context.observe(requests, context.unrounded, walk.count)
        for layer, step, adder, wanted in corrected:
            now = walk.ask(ChannelMean(adder.output[0], layer.result_axis))
            before = means[wanted]
            if before.shape != now.shape:
                changes.skip(layer.node, "the float model gives other channels under its name")
                continue
            shift = before - now
            enough = np.maximum(_RIGHT_ALREADY * np.abs(now).max(initial=0.0), step)
            if (np.abs(shift) <= enough).all():
                changes.skip(layer.node, "its mean is right already")
                continue
            shift_quantized_bias(layer, step, shift, context.target.bias)
            changes.edit(layer.node, f"bias moved by up to {np.abs(shift).max():.3g}")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        coarse = "quantize-static{per_channel=false,ranges=percentile,percentile=90}"
        return [Example(each, {"samples": 8}, coarse, samples=16) for each in ("cnn", "mlp")]


def _integer_layers(graph: Graph) -> list[tuple[Layer, Step]]:
    """The layers of the main graph on integers, each with the step of its bias."""
    found = [(each, bias_step(each)) for each in layers(graph.main) if isinstance(each, Layer)]
    return [(layer, step) for layer, step in found if step is not None]
