"""Weight and bias of a layer stored as integers, as an integer kernel wants them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from graphopt.facts import ops
from graphopt.facts.ops import Weight
from graphopt.graph.graph import Constant, Scope
from graphopt.graph.node import attribute, is_op
from graphopt.numerics import grids, ranges, saturation
from graphopt.numerics.grids import CODE_TYPES, CodeType
from graphopt.rewrite import qdq
from graphopt.rewrite.values import drop_unread

__all__ = [
    "BiasPlace",
    "IntegerLayer",
    "StoredWeights",
    "WeightGrid",
    "bias_place",
    "integer_layers",
    "set_integer_bias",
    "set_integer_weight",
]

_MOST_BIAS = 2**31 - 1


@dataclass(frozen=True)
class WeightGrid:
    """How the scales of a weight are chosen.

    Attributes:
        per_channel: One scale for each output channel instead of one for the tensor.
        method: ``max`` covers every value; ``mse`` clips where that makes the squared error less.
        saturates: Raise scales until no two neighbouring products overflow 16 bits.
        codes: Type of the codes; those used are symmetric, ``-qmax .. qmax``.
    """

    per_channel: bool
    method: Literal["max", "mse"]
    saturates: bool
    codes: CodeType = CODE_TYPES["int8"]


StoredWeights = dict[tuple[str, float, int | None, int, bytes], str]
"""Dequantized weights by name of the float constant, factor, axis, largest code and scales."""


@dataclass(frozen=True)
class BiasPlace:
    """Where the bias of a layer is read: input ``index`` of ``node``, the layer or an Add."""

    node: NodeProto
    index: int
    constant: Constant


def bias_place(scope: Scope, node: NodeProto, weight: Weight) -> BiasPlace | None:
    """The constant bias of a layer; for a MatMul that of an Add which alone reads its result."""
    if weight.bias is not None and weight.bias_index is not None:
        return BiasPlace(node, weight.bias_index, weight.bias)
    uses = scope.uses(node.output[0])
    if not is_op(node, "MatMul") or len(uses) != 1 or scope.is_output(node.output[0]):
        return None
    add = uses[0].node
    if uses[0].scope is not scope or not is_op(add, "Add"):
        return None
    index = 1 - uses[0].index
    constant = scope.constant(add.input[index])
    if constant is None or constant.overridable or constant.shape != (weight.out_channels,):
        return None
    if constant.data_type != TensorProto.FLOAT or not np.isfinite(constant.values).all():
        return None
    return BiasPlace(add, index, constant)


def set_integer_weight(
    scope: Scope,
    node: NodeProto,
    weight: Weight,
    input_scale: float,
    grid: WeightGrid,
    stored: StoredWeights | None = None,
) -> tuple[NDArray[np.float32], int]:
    """Store weight and bias of a layer as integers in front of its node.

    Args:
        scope: Where the node is.
        node: Conv, Gemm or MatMul; alpha and beta of a Gemm are multiplied in.
        weight: Its weight.
        input_scale: Scale of its quantized activation.
        grid: How to choose the scales of the weight.
        stored: What layers in front of this one store; those that share a weight and come to the
            same scales share its integers. Gets this layer's.

    Returns:
        Scales of the weight, rank 0 or ``(out,)``, and how many of them were raised so that the
        target's kernels do not saturate.
    """
    values = weight.constant.values
    place = bias_place(scope, node, weight)
    bias = None if place is None else np.ravel(place.constant.values).astype(np.float64)
    alpha = float(attribute(node, "alpha", 1.0)) if is_op(node, "Gemm") else 1.0
    if is_op(node, "Gemm"):
        values = values * np.float32(alpha)
        bias = None if bias is None else bias * attribute(node, "beta", 1.0)
        _drop_attributes(node, ("alpha", "beta"))
    if bias is not None and bias.size == 1:
        bias = np.repeat(bias, weight.out_channels)
    scales, raised = _scales(node, weight, values, grid)
    if bias is not None:
        scales = _fit_bias(scales, bias, input_scale)
    axis = weight.out_axis if scales.ndim else None
    stored = {} if stored is None else stored
    qmax = grid.codes.qmax
    key = (weight.constant.origin, alpha, axis, qmax, scales.tobytes())
    if key not in stored:
        codes = grids.quantize(values, scales, 0, -qmax, qmax, axis).astype(grid.codes.dtype)
        stored[key] = qdq.add_dequantize(
            scope, weight.constant.name, codes, scales, 0, axis=axis, before=node
        )
    scope.set_input(node, weight.index, stored[key])
    drop_unread(scope, [weight.constant.origin])
    if place is not None and bias is not None:
        set_integer_bias(scope, place.node, place.index, bias, scales * np.float32(input_scale))
    return scales, raised


def _drop_attributes(node: NodeProto, names: tuple[str, ...]) -> None:
    kept = [item for item in node.attribute if item.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _scales(
    node: NodeProto, weight: Weight, values: NDArray[Any], grid: WeightGrid
) -> tuple[NDArray[np.float32], int]:
    axis = weight.out_axis if grid.per_channel else None
    qmax = grid.codes.qmax
    scales = np.asarray(ranges.weight_scales(values, axis, qmax, method=grid.method), np.float32)
    if not grid.saturates or ops.depthwise(weight):
        return scales, 0
    factors = saturation.raise_factors(kernel_matrix(node, weight, values), scales, qmax=qmax)
    raised = int((factors > 1).sum())
    if not scales.ndim:
        factors = factors.max(initial=1.0)
    return np.asarray(scales * factors, np.float32), raised


def kernel_matrix(node: NodeProto, weight: Weight, values: NDArray[Any]) -> NDArray[Any]:
    """A weight as the integer kernel walks it: ``(products of one sum, out)``."""
    if is_op(node, "Conv"):
        return saturation.conv_matrix(values)
    return values if weight.out_axis == 1 else values.T


def _fit_bias(
    scales: NDArray[np.float32], bias: NDArray[np.float64], input_scale: float
) -> NDArray[np.float32]:
    """Scales at least so large that ``bias / (input_scale * scale)`` fits in 32 bits."""
    least = np.abs(bias) / input_scale / _MOST_BIAS * (1 + 1e-6)
    if not scales.ndim:
        least = least.max(initial=0.0)
    return np.maximum(scales, least).astype(np.float32)


def set_integer_bias(
    scope: Scope,
    node: NodeProto,
    index: int,
    bias: NDArray[np.float64],
    scale: NDArray[np.float32],
) -> None:
    """Let a node read ``bias`` as int32 of the scale in which the integer kernel adds up.

    Args:
        scope: Where the node is.
        node: The layer, or the Add behind a MatMul.
        index: Which of its inputs is the bias.
        bias: ``(out,)``.
        scale: Activation scale times weight scale, rank 0 or ``(out,)``.
    """
    named = node.input[index] if len(node.input) > index else ""
    codes = np.rint(bias / scale.astype(np.float64)).clip(-_MOST_BIAS - 1, _MOST_BIAS)
    dequantized = qdq.add_dequantize(
        scope,
        named or f"{node.output[0]}_bias",
        codes.astype(np.int32),
        scale,
        None,
        axis=0 if scale.ndim else None,
        before=node,
    )
    replaced = scope.constant(named) if named else None
    scope.set_input(node, index, dequantized)
    if replaced is not None:
        drop_unread(scope, [replaced.origin])


@dataclass(frozen=True)
class IntegerLayer:
    """A Conv, Gemm or MatMul of a QDQ graph whose weight is stored as integers.

    Attributes:
        node: The layer.
        weight_scale: Rank 0 or ``(out,)``.
        input_scale: Scale of the quantized activation.
        bias: Constant with the int32 codes; None where the layer adds none.
        adder: The node that adds the bias, the layer itself or the Add behind a MatMul; None
            where no node could take one.
        bias_index: Which input of ``adder`` is the bias.
        out_axis: Axis of the channels in the result: 1 of Conv and Gemm, the last of MatMul.
    """

    node: NodeProto
    weight_scale: NDArray[np.float32]
    input_scale: float
    bias: Constant | None
    adder: NodeProto | None
    bias_index: int
    out_axis: int


def integer_layers(scope: Scope) -> Iterator[IntegerLayer]:
    """The layers of a QDQ graph that ``set_integer_weight`` made, in order of the nodes."""
    for node in list(scope.nodes):
        if not is_op(node, "Conv", "Gemm", "MatMul"):
            continue
        weight_scale = _scale_behind(scope, node.input[1], stored=True)
        input_scale = _scale_behind(scope, node.input[0], stored=False)
        if weight_scale is None or input_scale is None or input_scale.ndim:
            continue
        adder, index = (node, 2) if not is_op(node, "MatMul") else _adder(scope, node)
        bias = None
        if adder is not None and len(adder.input) > index and adder.input[index]:
            source = scope.producer(adder.input[index])
            if source is None or not is_op(source, "DequantizeLinear"):
                continue
            bias = scope.constant(source.input[0])
        axis = -1 if is_op(node, "MatMul") else 1
        yield IntegerLayer(node, weight_scale, float(input_scale), bias, adder, index, axis)


def _scale_behind(scope: Scope, name: str, *, stored: bool) -> NDArray[np.float32] | None:
    """Scale of the DequantizeLinear that computes ``name`` from codes, constant ones or not."""
    node = scope.producer(name)
    if node is None or not is_op(node, "DequantizeLinear"):
        return None
    if (scope.constant(node.input[0]) is not None) is not stored:
        return None
    constant = scope.constant(node.input[1])
    return None if constant is None else np.asarray(constant.values, np.float32)


def _adder(scope: Scope, node: NodeProto) -> tuple[NodeProto | None, int]:
    """The Add behind a MatMul that adds dequantized int32, and which input that is."""
    uses = scope.uses(node.output[0])
    if len(uses) == 1 and uses[0].scope is scope and is_op(uses[0].node, "Add"):
        index = 1 - uses[0].index
        source = scope.producer(uses[0].node.input[index])
        if source is not None and is_op(source, "DequantizeLinear"):
            return uses[0].node, index
    return None, 0
