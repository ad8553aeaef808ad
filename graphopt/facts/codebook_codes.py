"""Codes that pick centres from a codebook, packed or not, as one view of a coded weight."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.facts.coded import CodedWeight, has_one_reader, set_alone
from graphopt.facts.expansion import computed, parameter
from graphopt.facts.layers import Layer, Refusal
from graphopt.facts.operands import Operand
from graphopt.graph.graph import Constant, Use
from graphopt.graph.node import is_op
from graphopt.numerics.packing import BYTE, pack_fields, pack_planes

__all__ = ["codebook_weight"]


def codebook_weight(layer: Layer) -> CodedWeight | Refusal:
    """The codes, scales and centres of a layer's weight; why they cannot be told or changed.

    Known is the form that ``palettize-weights`` writes: codes, a Gather from the centres, a Mul by
    scales of the rank of the weight.
    """
    weight = layer.weight
    if weight.constant.overridable:
        return Refusal(
            layer.node, "its weight is listed as an input; put freeze-initializers before"
        )
    picks = [at for at, use in enumerate(weight.path) if is_op(use.node, "Gather")]
    behind = [use for use in weight.path[picks[-1] + 1 :] if is_op(use.node, "Mul")]
    order, shape = weight.order, weight.dims
    if len(behind) != 1 or order is None:
        return Refusal(layer.node, "the centres of its weight have not one scale behind them")
    at, scaling = picks[-1], behind[0]
    if not has_one_reader(weight):
        return Refusal(layer.node, "the codes of its weight are read by another node too")
    centres, scales = Use(weight.path[at].scope, weight.path[at].node, 0), _other(scaling)
    held, factor = _float32(centres), _float32(scales)
    codes = _codes(weight, at)
    if held is None or factor is None or len(held.shape) != 1 or codes.shape != shape:
        return Refusal(layer.node, "its centres and scales are no float32 of one value each")
    scale = factor.values
    scale = scale.reshape((1,) * (codes.ndim - scale.ndim) + scale.shape)
    if any(has not in (1, size) for has, size in zip(scale.shape, shape, strict=True)):
        return Refusal(layer.node, "the scales of its weight do not fit its codes")
    packed = _packed(weight, at, codes)
    if packed is None or not np.array_equal(packed, weight.constant.values):
        return Refusal(layer.node, "nobody knows how the codes of its weight are packed")
    back, kept = np.argsort(order), factor.shape

    def keep(
        new: NDArray[np.int64], scales_: NDArray[np.float32], centres_: NDArray[np.float32] | None
    ) -> None:
        again = _packed(weight, at, np.ascontiguousarray(new.transpose(back)))
        assert again is not None and centres_ is not None
        weight.constant.set(again)
        set_alone(scales, factor, scales_.transpose(back).reshape(kept).astype(np.float32))
        set_alone(centres, held, centres_.astype(np.float32))

    blocks = [1 if has > 1 else size for has, size in zip(scale.shape, shape, strict=True)]
    return CodedWeight(
        layer,
        codes.transpose(order),
        np.asarray(scale.transpose(order), np.float32),
        np.zeros(scale.shape, np.int64).transpose(order),
        tuple(blocks[axis] for axis in order),
        0,
        len(held.values) - 1,
        keep,
        held.values,
    )


def _other(use: Use) -> Use:
    return Use(use.scope, use.node, 1 - use.index)


def _float32(use: Use) -> Constant | None:
    """The constant that is read, of float32 and for nobody else to replace."""
    constant = use.scope.constant(use.node.input[use.index])
    if constant is None or constant.overridable or constant.data_type != TensorProto.FLOAT:
        return None
    return constant


def _codes(weight: Operand, at: int) -> NDArray[np.int64]:
    """The codes as the node at that place of the path reads them."""
    values: NDArray[Any] = weight.constant.values
    for use in weight.path[:at]:
        values = computed(use, values)
    return values.astype(np.int64)


def _packed(weight: Operand, at: int, codes: NDArray[np.int64]) -> NDArray[Any] | None:
    """Codes as the constant holds them, by the nodes in front of the place; None where unknown."""
    before = [use for use in weight.path[:at] if not is_op(use.node, "Cast")]
    if not before:
        return codes.astype(tensor_dtype_to_np_dtype(weight.constant.data_type))
    kinds = [use.node.op_type for use in before]
    if kinds == ["Gather", "Reshape"]:
        table = parameter(before[0].scope, before[0].node.input[0])
        return None if table is None else pack_fields(codes, BYTE // table.shape[-1])
    if kinds == ["Gather", "Mul", "ReduceSum", "Reshape"]:
        return pack_planes(codes, weight.constant.shape[-1])
    return None
