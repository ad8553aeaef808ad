"""Which codes and operators suit a weight that is stored in blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from graphopt.facts.layers import Layer, picked_axis, picks_rows
from graphopt.facts.weights import WeightGroup
from graphopt.graph.graph import Use
from graphopt.graph.node import attribute, is_op
from graphopt.numerics.grids import CODE_TYPES, CodeName, CodeType
from graphopt.targets import Target

__all__ = ["BlockForm", "block_form", "lookups", "scale_axes", "scale_count"]

Operators = Literal["expanded", "dequantized", "rows", "packed rows"]
"""Cast, Sub and Mul in front of the layers, which a runtime folds as it loads the model; a
DequantizeLinear; a lookup of rows of codes with Cast and Mul behind it; operators of the
runtime's own that look up packed rows, and multiply by them."""

_DEFAULT_BLOCKS = {8: 0, 4: 64, 2: 32}
_LEAST_PACKED = 16  # GatherBlockQuantized takes powers of two from here on
_BLOCKED_OPSET = 21  # DequantizeLinear with block_size


@dataclass(frozen=True)
class BlockForm:
    """How a weight is to be stored.

    Attributes:
        codes: Type of its codes.
        block: How many neighbours along each axis of the stored weight share a scale.
        operators: What makes floats of them.
        note: Why its codes are others than those asked for; empty where they are not.
    """

    codes: CodeName
    block: tuple[int, ...]
    operators: Operators
    note: str = ""

    @property
    def kind(self) -> CodeType:
        """What its codes are like."""
        return CODE_TYPES[self.codes]


def block_form(
    group: WeightGroup,
    codes: CodeName,
    block_size: int | None,
    form: Literal["auto", "expanded", "dequantized"],
    target: Target,
    opset: int,
) -> BlockForm:
    """The form of a weight on a target.

    Args:
        group: The layers that read it; those that look entries up come first.
        codes: Codes asked for.
        block_size: Elements in a row that share a scale; 0 for the whole row, None for what suits
            codes and target.
        form: What makes floats of the codes, where that can be chosen.
        target: Where it will run.
        opset: Version of the default domain.
    """
    kind, first = CODE_TYPES[codes], group.layers[0]
    size = _DEFAULT_BLOCKS[kind.bits] if block_size is None else block_size
    shape = group.constant.shape
    if lookups(group):
        packed = _packed_block(group, kind, size, target)
        if packed:
            return BlockForm(codes, (1, packed), "packed rows")
        whole = tuple(1 if at in scale_axes(first) else many for at, many in enumerate(shape))
        if codes in target.row_types and kind.qmin < 0:
            return BlockForm(codes, whole, "rows")
        note = f"{target.runtime} looks up no such rows of {kind.bits} bits"
        return BlockForm("int8", whole, "rows", "" if kind.bits == 8 else note)
    block = _block(first, size)
    kept = [at for at, many in enumerate(block) if many < shape[at]]
    if _is_linear(group, block, kept, kind, form, target, opset):
        return BlockForm(codes, block, "dequantized")
    return BlockForm(codes, block, "expanded")


def scale_axes(layer: Layer) -> tuple[int, ...]:
    """The axes of a float32 weight that have scales of their own; none for one to leave alone."""
    turned, shape = layer.weight.turned, layer.weight.constant.shape
    if layer.refusal("float32") is not None:
        return ()
    if layer.kind == "table":
        wide = math.prod(shape) > shape[layer.out_axis]
        return (layer.out_axis,) if wide and not turned else ()
    if layer.kind == "recurrent":
        return () if turned else (0, 1)
    return (layer.out_axis,)


def scale_count(shape: Sequence[int], block: Sequence[int]) -> int:
    """How many scales a weight of that shape has.

    >>> scale_count((100, 8), (32, 1))
    32
    """
    return math.prod(-(-size // many) for size, many in zip(shape, block, strict=True))


def lookups(group: WeightGroup) -> list[Use]:
    """The places that pick entries of a table along the axis of its scales."""
    constant, axes, found = group.constant, scale_axes(group.layers[0]), []
    for use in constant.scope.uses(constant.origin):
        axis = picked_axis(use.scope, use.node, use.index)
        if axis is not None and (axis % len(constant.shape),) == axes:
            found.append(use)
    return found


def _block(layer: Layer, size: int) -> tuple[int, ...]:
    """A scale for each output channel and, of the inputs, for as many as have ``size`` weights."""
    shape, axes = layer.weight.constant.shape, scale_axes(layer)
    inner = 2 if layer.kind == "recurrent" else layer.in_axis
    block = [1 if at in axes else many for at, many in enumerate(shape)]
    if size and inner not in axes:
        taps = math.prod(block) // max(1, block[inner])
        block[inner] = min(block[inner], max(1, size // max(1, taps)))
    return tuple(block)


def _packed_block(group: WeightGroup, kind: CodeType, size: int, target: Target) -> int:
    """Size of the blocks of packed rows; 0 where a table cannot be looked up so."""
    shape, uses = group.constant.shape, group.constant.scope.uses(group.constant.origin)
    if kind.bits >= 8 or not target.block_lookup or len(shape) != 2:
        return 0
    others = [use for use in uses if use.index < 0 or not picks_rows(use.node, use.index)]
    if others:
        return _tied_block(group, kind, size, target) if _tied(group, others) else 0
    if shape[1] * kind.bits % 8:
        return 0
    row = 1 << (shape[1] - 1).bit_length()
    if not size or size >= row:
        return max(_LEAST_PACKED, row)
    return max(_LEAST_PACKED, 1 << (size.bit_length() - 1))


def _tied(group: WeightGroup, others: Sequence[Use]) -> bool:
    """Whether all that reads a table beside lookups is products with its rows as columns."""
    products = [each for each in group.layers if each.kind != "table"]
    if not all(use.index == 0 and is_op(use.node, "Transpose") for use in others):
        return False
    readers = sum(len(use.scope.uses(use.node.output[0])) for use in others)
    plain = all(
        is_op(each.node, "MatMul") and each.weight.index == 1 and len(each.weight.path) == 1
        for each in products
    )
    return plain and len(products) == readers and not group.layers[0].weight.given_out


def _tied_block(group: WeightGroup, kind: CodeType, size: int, target: Target) -> int:
    """The largest block that divides the rows of a table, up to ``size``; 0 for none."""
    length, most = group.constant.shape[1], size or group.constant.shape[1]
    fitting = target.block_sizes.get(_name(kind), ())
    return max((each for each in fitting if each <= most and not length % each), default=0)


def _is_linear(
    group: WeightGroup,
    block: tuple[int, ...],
    kept: Sequence[int],
    kind: CodeType,
    form: Literal["auto", "expanded", "dequantized"],
    target: Target,
    opset: int,
) -> bool:
    """Whether a DequantizeLinear makes floats of the codes."""
    first, shape = group.layers[0], group.constant.shape
    whole = sum(shape[at] > 1 for at in kept) <= 1
    along = [at for at, many in enumerate(block) if 1 < many < shape[at]]
    others = all(many in (1, shape[at]) or at in along for at, many in enumerate(block))
    plain = all(many == 1 or at in along for at, many in enumerate(block)) and others
    needed = target.min_opset if whole and not along else _BLOCKED_OPSET
    can = (whole and not along) or (plain and len(along) == 1)
    if form == "expanded" or not can or opset < max(needed, kind.opset):
        return False
    if form == "dequantized" or target.expands == "DequantizeLinear":
        return True
    if along and kind.bits < 8 and first.kind == "linear" and not target.contrib:
        return True  # OpenVINO 2025 misreads such weights where scales are repeated (-0.6 dB)
    sizes = target.block_sizes.get(_name(kind), ())
    return bool(along) and block[along[0]] in sizes and _multiplies_blocks(first, along[0])


def _name(kind: CodeType) -> CodeName:
    return next(name for name, each in CODE_TYPES.items() if each is kind)


def _multiplies_blocks(layer: Layer, axis: int) -> bool:
    """Whether onnxruntime merges a layer with the DequantizeLinear of a weight (1.32).

    It does with a plain matrix that one MatMul or Gemm alone reads as its right operand.
    """
    weight = layer.weight
    plain = not weight.turned and weight.index == 1 and len(weight.constant.shape) == 2
    if not plain or axis != 0 or not weight.alone or weight.node.op_type not in ("MatMul", "Gemm"):
        return False
    factors = (attribute(weight.node, name, 0) for name in ("transA", "transB"))
    return is_op(weight.node, "MatMul") or (not any(factors) and layer.alpha == 1)
