"""Codes that pick centres from a codebook, packed or not, as one view of a coded weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.facts.coded import CodedWeight, has_one_reader, set_alone
from graphopt.facts.expansion import computed, constants_behind, parameter
from graphopt.facts.layers import Layer, Refusal
from graphopt.facts.operands import Operand
from graphopt.graph.graph import Constant, Use
from graphopt.graph.node import is_op
from graphopt.numerics.packing import BYTE, held_codes, pack_fields, pack_planes, unpack_fields

__all__ = ["codebook_weight"]

Codes = NDArray[np.int64]
Singles = NDArray[np.float32]


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
    picks = [
        at for at, use in enumerate(weight.path) if is_op(use.node, "Gather") and use.index == 1
    ]
    at = picks[-1]
    shaped = [place for place, use in enumerate(weight.path) if is_op(use.node, "Reshape")]
    behind = weight.path[max([at, *shaped]) + 1 :]
    scaling = [use for use in behind if is_op(use.node, "Mul")]
    order, shape = weight.order, weight.dims
    if len(scaling) != 1 or order is None:
        return Refusal(layer.node, "the centres of its weight have not one scale behind them")
    if not has_one_reader(weight):
        return Refusal(layer.node, "the codes of its weight are read by another node too")
    centres, scales = Use(weight.path[at].scope, weight.path[at].node, 0), _other(scaling[0])
    held, factor = _float32(centres), _float32(scales)
    if held is None or factor is None or len(held.shape) != 1:
        return Refusal(layer.node, "its centres and scales are no float32 of one value each")
    scale = factor.values
    scale = scale.reshape((1,) * (len(shape) - scale.ndim) + scale.shape)
    if any(has not in (1, size) for has, size in zip(scale.shape, shape, strict=True)):
        return Refusal(layer.node, "the scales of its weight do not fit its codes")
    packing = _Packing.of(weight, at, held.values)
    if packing is None:
        return Refusal(layer.node, "nobody knows how the codes of its weight are packed")
    back, kept = np.argsort(order), factor.shape

    def keep(new: Codes, scales_: Singles, centres_: Singles | None) -> None:
        assert centres_ is not None
        stored = packing.store(np.ascontiguousarray(new.transpose(back)), centres_)
        set_alone(scales, factor, scales_.transpose(back).reshape(kept).astype(np.float32))
        set_alone(centres, held, stored.astype(np.float32))

    blocks = [1 if has > 1 else size for has, size in zip(scale.shape, shape, strict=True)]
    return CodedWeight(
        layer,
        packing.codes.transpose(order),
        np.asarray(scale.transpose(order), np.float32),
        np.zeros(scale.shape, np.int64).transpose(order),
        tuple(blocks[axis] for axis in order),
        0,
        len(packing.centres) - 1,
        keep,
        packing.centres,
    )


@dataclass(frozen=True, eq=False)
class _Packing:
    """How codes are held by a constant.

    Attributes:
        weight: What is read.
        at: Which node of its path picks the centres.
        codes: In the layout in which the weight is stored.
        centres: That these codes pick: with zero among them where bits say what is zero.
        bits: Those; None where all values have codes.
    """

    weight: Operand
    at: int
    codes: Codes
    centres: Singles
    bits: Constant | None = None

    @classmethod
    def of(cls, weight: Operand, at: int, centres: Singles) -> _Packing | None:
        """What is found; None where it is packed in another way."""
        picked = [use for use in weight.path[:at] if is_op(use.node, "Gather") and use.index == 0]
        codes = _followed(weight, at)
        if not picked:
            made = cls(weight, at, codes, centres)
            fits = codes.shape == weight.dims
        else:
            behind = constants_behind(picked[0].scope, picked[0].node.input[1]) or []
            bits = next((each for each in behind if each.data_type == TensorProto.UINT8), None)
            masks = [each for each in behind if len(each.shape) == 1 and each.shape != (1,)]
            bits = masks[0] if len(masks) == 1 else bits
            if bits is None or 8 * math.prod(bits.shape) != math.prod(weight.dims):
                return None
            mask = unpack_fields(bits.values, 1).reshape(weight.dims).astype(np.bool_)
            whole, place = _with_zero(centres)
            shifted = codes.reshape(weight.dims)
            shifted = np.where(mask, shifted + (shifted >= place), place)
            made = cls(weight, at, shifted, whole, bits)
            fits = True
        same = fits and made.packed(made.codes, made.centres)
        if not same or not np.array_equal(same[0], weight.constant.values):
            return None
        return made

    def packed(self, codes: Codes, centres: Singles) -> tuple[NDArray[Any], Singles] | None:
        """Codes as the constant holds them, and the centres; None where that is unknown."""
        if self.bits is None:
            stored = _packed(self.weight, self.at, codes)
            return None if stored is None else (stored, centres)
        place = int(np.flatnonzero(centres == 0)[0])
        others = codes - (codes > place)
        stored = _packed(self.weight, self.at, held_codes(others, codes != place))
        return None if stored is None else (stored, np.delete(centres, place))

    def store(self, codes: Codes, centres: Singles) -> Singles:
        """Put other codes there; the centres that go with them."""
        found = self.packed(codes, centres)
        assert found is not None
        stored, left = found
        self.weight.constant.set(stored)
        if self.bits is not None:
            place = int(np.flatnonzero(centres == 0)[0])
            self.bits.set(pack_fields(codes != place, 1))
        return left


def _with_zero(centres: Singles) -> tuple[Singles, int]:
    """The centres with a zero among them, and where."""
    place = int(np.searchsorted(centres, 0))
    return np.insert(centres, place, np.float32(0)), place


def _other(use: Use) -> Use:
    return Use(use.scope, use.node, 1 - use.index)


def _float32(use: Use) -> Constant | None:
    """The constant that is read, of float32 and for nobody else to replace."""
    constant = use.scope.constant(use.node.input[use.index])
    if constant is None or constant.overridable or constant.data_type != TensorProto.FLOAT:
        return None
    return constant


def _followed(weight: Operand, at: int) -> Codes:
    """The codes as the node at that place of the path reads them."""
    values: NDArray[Any] = weight.constant.values
    for use in weight.path[:at]:
        values = computed(use, values)
    return values.astype(np.int64)


def _packed(weight: Operand, at: int, codes: Codes) -> NDArray[Any] | None:
    """Codes as the constant holds them, by the nodes in front of the place; None where unknown."""
    before = [
        use
        for use in weight.path[:at]
        if not is_op(use.node, "Cast") and not (is_op(use.node, "Gather") and use.index == 0)
    ]
    if not before:
        return codes.astype(tensor_dtype_to_np_dtype(weight.constant.data_type))
    kinds = [use.node.op_type for use in before]
    if kinds == ["Gather", "Reshape"]:
        table = parameter(before[0].scope, before[0].node.input[0])
        return None if table is None else pack_fields(codes, BYTE // table.shape[-1])
    if kinds == ["Gather", "Mul", "ReduceSum", "Reshape"]:
        return pack_planes(codes, weight.constant.shape[-1])
    return None
