"""The pass ``palettize-weights``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import MinOpset
from graphopt.contract.registry import register
from graphopt.facts.layers import Layer, Refusal
from graphopt.facts.operands import operand
from graphopt.facts.select import select
from graphopt.facts.weights import WeightGroup, weight_groups
from graphopt.families.chosen import Exclude, MinSize, Nodes
from graphopt.families.layer_inputs import Inputs, inputs_of
from graphopt.families.refitting.blocks import blocks_of, from_blocks
from graphopt.graph.graph import Graph
from graphopt.numerics import grids, ranges
from graphopt.numerics.codebooks import extra_bits, fit_centres, nearest_centres, row_scales
from graphopt.numerics.grids import CODE_TYPES
from graphopt.rewrite.palettes import (
    SCALE_TOLERANCE,
    Palette,
    Shared,
    store_half,
    store_palette,
    stored_as,
    stored_floats,
)

__all__ = ["PalettizeWeights"]

Floats = NDArray[np.float64]

_MANY_ZEROS = 0.1
"""Share of zeros from which on they stay exactly zero."""
_FEW_BITS = 4
"""Below it a layer may have a bit less than the others, which then have more."""
_EXTRA = 0.04
_HALF_STEP = 2.0**-12
_SMALLEST_HALF = 2.0**-14
_SMALL_SCALE = 2.0**-8
"""Scales below the smallest normal half float rise to it where they are this share of the largest:
steps then are still as fine as those of codes with one scale for all."""
_BIAS_ERROR = 0.02
"""Share of the weights of a channel that half floats may change its bias by."""


@register("palettize-weights")
@dataclass(frozen=True, kw_only=True)
class PalettizeWeights(Pass):
    """Store weights as codes of a few bits that pick their values from a codebook: a small file.

        Conv(x, W)     becomes     Conv(x, codebook[codes] * scale)

    The values of a codebook lie where the weights are, not at even distances as those of integers
    do. They are found by k-means over each weight, divided by a scale of each output channel;
    where there are calibration samples, by the error that a weight makes in the output of its
    layer, and biases make up for what the mean of an output loses. Codes of any width from 1 to 8
    bits are packed without gaps. Below 4 bits, large layers may get one less and small ones some
    more, as these cost few bytes: errors of layers add up alike, whatever their size. Layers go on
    computing in floats at the same speed: onnxruntime and other runtimes that fold constants
    compute the weights once, when they load the model (Cast, Gather and Mul of constants), and hold
    them as floats in memory. With ``opset=21`` four bits take two operators less.

    The first layers and depthwise ones get integers of 8 bits with a scale a channel, as
    ``eight_bits`` says. Weights with many zeros keep each of them; where that is smaller, they take
    a bit for each value and codes for the others alone. A layer that would take more bytes than its
    floats stays as it is. Put it behind clean-up and pruning, and round-weights
    behind it; quantize-weights takes what it leaves, such as tables.

    Source: Han et al. 2016, Deep Compression, section 3; Choi et al. 2017, Towards the Limit of
    Network Quantization, section 3.3 (k-means weighted by the Hessian's diagonal).
    """

    bits: Annotated[int, Option("bits of a code", low=1, high=8)] = 4
    eight_bits: Annotated[
        tuple[str, ...],
        Option("nodes of these names, types or kinds get integers of 8 bits", patterns=True),
    ] = ("first", "depthwise")
    extra: Annotated[
        float | None,
        Option(
            "share of bytes on top, for more bits in small layers; by default 0.04 below 4 bits",
            low=0,
            high=1,
        ),
    ] = None
    half_biases: Annotated[bool, Option("store biases as half floats where that is enough")] = True
    min_size: MinSize = 256
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True
    uses_samples: ClassVar[bool] = True
    requires = (MinOpset("Range of constants", 11),)

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        coarse = select(graph, self.eight_bits, () if self.eight_bits else ("*",))
        groups: list[tuple[WeightGroup, int | None]] = []
        for group in weight_groups(graph, select(graph, self.nodes, self.exclude)):
            bits = None if any(coarse(each.node) for each in group.layers) else self.bits
            if refusal := group.refusal(self.min_size) or _refusal(group, bits, graph):
                changes.skip(refusal)
            else:
                groups.append((group, bits))
        groups = self._with_extra(groups)
        plain = [group for group, bits in groups if bits and group.layers[0].groups == 1]
        known = dict(zip(map(id, plain), inputs_of(plain, graph, context), strict=True))
        shared: Shared = {}
        for group, bits in groups:
            values, read = group.constant.values, known.get(id(group))
            palette = _palette(group.layers[0], values, bits, read, graph.opset)
            store_palette(group.constant, palette, shared)
            if read is not None:
                read.rebias(group.layers, _lost(group.layers[0], values - palette.values()))
            halved = self.half_biases and _halve_biases(group, values)
            biases = ", biases as half floats" if halved else ""
            for each in group.layers:
                changes.edit(each.node, f"{_words(palette, read)}{biases}")
        return changes

    def _with_extra(
        self, groups: Sequence[tuple[WeightGroup, int | None]]
    ) -> list[tuple[WeightGroup, int | None]]:
        """The weights with the bits of their codes, small ones with more of them."""
        coded = [group for group, bits in groups if bits is not None]
        few = self.bits < _FEW_BITS
        extra = (_EXTRA if few else 0.0) if self.extra is None else self.extra
        least = max(self.bits - 1, 1) if few else self.bits
        sizes = [math.prod(group.constant.shape) for group in coded]
        found = dict(zip(map(id, coded), extra_bits(sizes, self.bits, extra, least), strict=True))
        return [(group, found.get(id(group))) for group, _ in groups]

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [
            Example("cnn", {"min_size": 64}, samples=8),
            Example("mlp", {"bits": 3, "eight_bits": (), "half_biases": False}, samples=8),
            Example("mlp", {"exclude": ("Gemm",), "bits": 2, "extra": 0.5}),
            Example("shared-weights", {"min_size": 64, "nodes": ("MatMul",), "bits": 5}),
        ]


def _refusal(group: WeightGroup, bits: int | None, graph: Graph) -> Refusal | None:
    """Why a weight stays as it is."""
    one, constant = group.layers[0], group.constant
    if refusal := one.refusal("float32", "finite"):
        return refusal
    if constant.data_type != TensorProto.FLOAT:
        return Refusal(
            one.node, "its weight is stored as half floats; put convert-to-float32 before"
        )
    needed = stored_as(bits, constant.values, one.out_channels, graph.opset).nbytes
    if needed >= constant.nbytes:
        reason = f"codes of {bits or 8} bits and what expands them take {needed} bytes"
        return Refusal(one.node, f"{reason}, as floats it takes {constant.nbytes}")
    return None


def _palette(
    one: Layer, values: NDArray[np.float32], bits: int | None, read: Inputs | None, opset: int
) -> Palette:
    """Codes for a weight in the layout in which it is stored; of integers without ``bits``."""
    axis = one.out_axis
    along = [-1 if at == axis else 1 for at in range(values.ndim)]
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    if bits is None:
        limit = CODE_TYPES["int8"].qmax
        steps = ranges.weight_scales(rows, 0, limit, "max")
        least = min(_SMALLEST_HALF, float(steps.max(initial=0.0)) * _SMALL_SCALE)
        steps = np.maximum(steps, np.float32(least))
        scale = stored_floats(steps, SCALE_TOLERANCE).reshape(along)
        codes = grids.quantize(_ratio(values, scale), 1.0, 0, -limit, limit).astype(np.int8)
        return Palette(codes, 8, None, scale)
    weights = None if read is None else _importance(one, read)
    picked = None if weights is None else np.moveaxis(weights, axis, 0).reshape(rows.shape)
    scales = row_scales(rows, picked)
    unit = 2.0 ** np.floor(np.log2(scales.max()))
    scale = stored_floats((scales / unit).astype(np.float32), SCALE_TOLERANCE).reshape(along)
    ratio = _ratio(values, scale)
    spread = np.square(scale.astype(np.float64)) * (1.0 if weights is None else weights)
    spread = np.broadcast_to(spread, values.shape)
    sparse = stored_as(bits, values, scale.size, opset).sparse
    mask = values != 0
    held = not sparse and mask.mean() <= 1 - _MANY_ZEROS
    counted = mask if sparse and mask.any() else np.ones(values.shape, np.bool_)
    fitted = fit_centres(ratio[counted], spread[counted], 1 << bits, zero=held)
    centres = stored_floats(fitted.astype(np.float32))
    picks = nearest_centres(ratio, centres)
    return Palette(picks, bits, centres, scale, mask if sparse else None)


def _ratio(values: NDArray[np.float32], scale: NDArray[np.float32]) -> Floats:
    """Weights over their scale; zero where half floats made nothing of the scale."""
    scale = np.broadcast_to(scale.astype(np.float64), values.shape)
    return np.divide(values, scale, out=np.zeros(values.shape), where=scale > 0)


def _importance(one: Layer, read: Inputs) -> Floats:
    """What the square of an error of each weight counts, in the layout in which it is stored."""
    squares = np.diagonal(read.gram)
    blocks = np.broadcast_to(squares[None, :, None], (1, len(squares), one.out_channels))
    return np.asarray(one.weight.stored(from_blocks(one, blocks)), np.float64)


def _lost(one: Layer, error: NDArray[np.float32]) -> Floats:
    """What a weight has lost, as its inputs are multiplied with it: ``(width, out)``."""
    order = one.weight.order
    assert order is not None
    return np.asarray(blocks_of(one, error.astype(np.float64).transpose(order))[0])


def _halve_biases(group: WeightGroup, values: NDArray[np.float32]) -> bool:
    """Store the biases of layers as half floats where that changes less than their weights do."""
    size = np.linalg.norm(values) / math.sqrt(group.layers[0].out_channels)
    halved = False
    for each in group.layers:
        place = each.bias_place if each.bias is not None else None
        bias = None if place is None else operand(each.scope, *place)
        if bias is None or bias.form != "float" or not bias.alone or bias.path:
            continue
        error = np.abs(bias.constant.values).max(initial=0.0) * _HALF_STEP
        if error <= _BIAS_ERROR * size:
            halved |= store_half(bias.constant)
    return halved


def _words(palette: Palette, read: Inputs | None) -> str:
    scales = f"{palette.scale.size} scales"
    if palette.centres is None:
        return f"stored as int8, {scales}"
    if palette.mask is not None:
        scales += f", {1 - palette.mask.mean():.0%} zeros as bits"
    by = "what its inputs make of the error" if read is not None else "its values alone"
    count = len(palette.centres)
    return f"stored as {palette.bits}-bit codes of {count} centres, chosen by {by}; {scales}"
