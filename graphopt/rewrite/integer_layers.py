"""Weight and bias of a layer stored as integers, as an integer kernel wants them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.facts.codes import GivenCodes, given_codes
from graphopt.facts.layers import Layer
from graphopt.facts.quantized import dequantizer
from graphopt.graph.graph import Scope
from graphopt.graph.node import is_op, set_attributes
from graphopt.numerics import grids, ranges, saturation
from graphopt.numerics.grids import CODE_TYPES, CodeType
from graphopt.rewrite import qdq
from graphopt.rewrite.biases import has_bias, shift_bias
from graphopt.rewrite.values import drop_unread

__all__ = [
    "BiasForm",
    "StoredWeights",
    "WeightGrid",
    "bias_step",
    "set_integer_weight",
    "set_quantized_bias",
    "shift_quantized_bias",
]

_MOST_BIAS = 2**31 - 1

BiasForm = Literal["int32", "int32+zero", "float"]
"""``int32``: codes behind a DequantizeLinear without zero point, as ONNX suggests for them;
``int32+zero``: with a zero point, whose zeros are shared by all biases of a length; ``float``:
left as it is, for a runtime that makes the codes itself."""


@dataclass(frozen=True)
class WeightGrid:
    """How the scales of a weight are chosen.

    Attributes:
        per_channel: One scale for each output channel instead of one for the tensor.
        method: ``max`` covers every value; ``mse`` clips where that makes the squared error less.
        saturates: Raise scales until no two neighbouring products overflow 16 bits.
        codes: Type of the codes; those used are symmetric, ``-qmax .. qmax``.
        bias: How the bias beside the weight is written.
    """

    per_channel: bool
    method: Literal["max", "mse"]
    saturates: bool
    codes: CodeType = CODE_TYPES["int8"]
    bias: BiasForm = "int32"


StoredWeights = dict[tuple[object, ...], str]
"""Dequantized weights by name and order of axes of the float constant, factor, axis, largest code
and scales."""


def set_integer_weight(
    layer: Layer, input_scale: float, grid: WeightGrid, stored: StoredWeights | None = None
) -> tuple[NDArray[np.float32], int]:
    """Store weight and bias of a layer as integers in front of its node.

    Codes of 8 bits that the file has for the weight already are used as they are, where a kernel
    takes them so and they neither saturate nor are too fine for the bias.

    Args:
        layer: A Conv, Gemm or MatMul; alpha and beta of a Gemm are multiplied in.
        input_scale: Scale of its quantized activation.
        grid: How to choose the scales of the weight.
        stored: What layers in front of this one store; those that share a weight and come to the
            same scales share its integers. Gets this layer's.

    Returns:
        Scales of the weight, rank 0 or ``(out,)``, and how many of them were raised so that the
        target's kernels do not saturate.
    """
    scope, node, weight, values = layer.scope, layer.node, layer.weight, layer.values()
    place = layer.bias if layer.refusal("float32 bias") is None else None
    bias = None
    if place is not None:
        bias = np.ravel(place.values()).astype(np.float64) * layer.beta
        bias = np.repeat(bias, layer.channels) if bias.size == 1 else bias
    if is_op(node, "Gemm"):
        set_attributes(node, drop=("alpha", "beta"))
    given = _usable_codes(layer, grid)
    if given is not None and not given.symmetric and bias is not None:
        fine = given.scale * np.float32(layer.alpha)
        given = given if np.array_equal(_fit_bias(fine, bias, input_scale), fine) else None
    scales, raised = _scales(layer, values, grid, given)
    if bias is not None:
        scales = _fit_bias(scales, bias, input_scale)
    if given is not None and not np.array_equal(scales, given.scale * np.float32(layer.alpha)):
        given = None  # coded anew; channels whose scale stayed come to the same codes
    axis = layer.read_axes[0] if scales.ndim else None
    stored = {} if stored is None else stored
    qmax, name = grid.codes.qmax, weight.constant.origin
    key = (name, weight.order, layer.alpha, axis, qmax, scales.tobytes())
    if key not in stored:
        if given is None:
            codes = grids.quantize(values, scales, 0, -qmax, qmax, axis).astype(grid.codes.dtype)
            zero: NDArray[Any] | int = 0
        else:
            codes, zero = given.values, given.zero_point
        stored[key] = qdq.add_dequantize(
            scope,
            weight.constant.name,
            codes,
            scales,
            zero,
            axis=axis,
            before=node,
            stored=None if given is None else given.stored,
        )
    replaced = node.input[weight.index]
    scope.set_input(node, weight.index, stored[key])
    drop_unread(scope, [replaced])
    if place is not None and bias is not None:
        step = scales * np.float32(input_scale)
        set_quantized_bias(scope, place.node, place.index, bias, step, grid.bias)
    return scales, raised


def _usable_codes(layer: Layer, grid: WeightGrid) -> GivenCodes | None:
    """The codes that the file has for a weight, where an integer kernel could take them."""
    codes = given_codes(layer.weight)
    if codes is None or grid.codes.dtype != np.int8 or layer.alpha <= 0:
        return None
    if codes.axis is not None and not (grid.per_channel and codes.axis == layer.read_axes[0]):
        return None
    return None if grid.saturates and not codes.symmetric else codes


def _scales(
    layer: Layer, values: NDArray[Any], grid: WeightGrid, given: GivenCodes | None
) -> tuple[NDArray[np.float32], int]:
    axis = layer.read_axes[0] if grid.per_channel else None
    qmax = grid.codes.qmax
    if given is not None:
        scales = np.asarray(given.scale * np.float32(layer.alpha), np.float32)
    else:
        found = ranges.weight_scales(values, axis, qmax, method=grid.method)
        scales = np.asarray(found, np.float32)
    if not grid.saturates or layer.depthwise:
        return scales, 0
    factors = saturation.raise_factors(kernel_matrix(layer, values), scales, qmax=qmax)
    raised = int((factors > 1).sum())
    if not scales.ndim:
        factors = factors.max(initial=1.0)
    return np.asarray(scales * factors, np.float32), raised


def kernel_matrix(layer: Layer, values: NDArray[Any]) -> NDArray[Any]:
    """A weight as the integer kernel walks it: ``(products of one sum, out)``."""
    if layer.kind == "conv":
        return saturation.conv_matrix(values)
    return values if layer.read_axes[0] == 1 else values.T


def _fit_bias(
    scales: NDArray[np.float32], bias: NDArray[np.float64], input_scale: float
) -> NDArray[np.float32]:
    """Scales at least so large that ``bias / (input_scale * scale)`` fits in 32 bits."""
    least = np.abs(bias) / input_scale / _MOST_BIAS * (1 + 1e-6)
    if not scales.ndim:
        least = least.max(initial=0.0)
    return np.maximum(scales, least).astype(np.float32)


def set_quantized_bias(
    scope: Scope,
    node: NodeProto,
    index: int,
    bias: NDArray[np.float64],
    scale: NDArray[np.float32],
    form: BiasForm = "int32",
) -> None:
    """Let a node read ``bias`` in the form that the integer kernel adds up in.

    Args:
        scope: Where the node is.
        node: The layer, or the Add behind a MatMul.
        index: Which of its inputs is the bias.
        bias: ``(out,)``.
        scale: Activation scale times weight scale, rank 0 or ``(out,)``.
        form: How it is written.
    """
    named = node.input[index] if len(node.input) > index else ""
    called = named or f"{node.output[0]}_bias"
    if form == "float":
        values = bias.astype(np.float32)
        held = scope.constant(named) if named else None
        if held is not None and np.array_equal(held.values, values):
            return
        scope.set_input(node, index, scope.add_constant(called, values))
        drop_unread(scope, [named])
        return
    codes = np.rint(bias / scale.astype(np.float64)).clip(-_MOST_BIAS - 1, _MOST_BIAS)
    dequantized = qdq.add_dequantize(
        scope,
        called,
        codes.astype(np.int32),
        scale,
        0 if form == "int32+zero" else None,
        axis=0 if scale.ndim else None,
        before=node,
    )
    scope.set_input(node, index, dequantized)
    drop_unread(scope, [named])


def shift_quantized_bias(
    layer: Layer, step: NDArray[np.float32], shift: NDArray[np.float64], form: BiasForm = "int32"
) -> None:
    """Add to the bias of a layer: on the grid of int32 in which its kernel adds up, or in floats.

    Args:
        layer: One that a ``bias_step`` is known of, and that has a bias or takes one.
        step: That step.
        shift: ``(out,)``.
        form: How a bias is written where there is none yet.
    """
    if layer.bias is None:
        assert layer.bias_place is not None
        set_quantized_bias(layer.scope, *layer.bias_place, shift, step, form)
        return
    if layer.bias.form == "float":
        shift_bias(layer, shift)
        return
    limits, constant = np.iinfo(np.int32), layer.bias.constant
    codes = constant.values.astype(np.float64) + np.rint(shift / step)
    constant.set(codes.clip(limits.min, limits.max).astype(np.int32))


def bias_step(layer: Layer) -> NDArray[np.float32] | None:
    """Step of the int32 bias of a layer in QDQ form: the scale of its sums.

    Returns:
        Rank 0 or ``(out,)``; None for a layer that no integer kernel takes as it stands: without
        a Q before its data, or with a bias that is not constant.
    """
    weight, source = layer.weight.scale, dequantizer(layer.scope, layer.data)
    quantized = layer.weight.form == "dequantized" and layer.weight.index == 1
    if not quantized or not is_op(layer.node, "Conv", "Gemm", "MatMul") or source is None:
        return None
    coded = layer.bias is not None and layer.bias.form == "dequantized"
    if layer.adds and not (coded or has_bias(layer)):
        return None
    data = layer.scope.constant(source.input[1])
    if weight is None or len(weight.shape) > 1 or data is None or data.shape:
        return None
    scale: NDArray[np.float32] = weight.values
    return np.asarray(scale * np.float32(data.values))
