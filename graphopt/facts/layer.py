"""A layer: a node with a constant weight, whatever form the weight is stored in."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from graphopt.facts.operands import FLOATS, Operand
from graphopt.graph.graph import Scope
from graphopt.graph.node import attribute, is_op

__all__ = ["Kind", "Layer", "Need", "Refusal"]

Kind = Literal["conv", "linear", "contraction", "table", "recurrent"]
"""Conv and ConvTranspose; MatMul and Gemm; Einsum; a Gather or Slice of a constant; RNN, GRU and
LSTM. Operators that are integer by definition are of the kind that they replace."""

Need = Literal[
    "float", "float32", "codable", "fixed", "right", "matrix", "finite", "bias", "float32 bias"
]
"""What a pass may ask of a layer: a weight stored as floats of any width; as float32; as that, or
as codes of 8 bits that a node turns into it; that no caller may replace; that is the right operand,
the left one not transposed; of rank 2; without NaN or infinity; a bias, if any, that is a finite
constant of floats, one value or one a channel, which no caller may replace; and one of float32."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Refusal:
    """Why a node is no layer, or none that somebody can use."""

    node: NodeProto
    reason: str


@dataclass(frozen=True, eq=False)
class Layer:
    """A node and the constant weight that it applies.

    Attributes:
        scope: Where the node is.
        node: The node. An RNN, GRU or LSTM is two layers, one for each of its weights; so may an
            Einsum be.
        kind: What it computes.
        weight: The weight as it is stored.
        read_axes: Axes of the output and of the input channels in what the node reads; for a
            grouped Conv the input axis counts those of one group, for a grouped ConvTranspose the
            output axis does. Of a table: the axis along which entries are picked, and the last.
        bias: The constant third input of a Conv, ConvTranspose or Gemm, or one value a channel that
            an Add behind a MatMul adds which alone reads its result; None without one.
        groups: Groups of a Conv or ConvTranspose, else 1.
        alpha: Factor of the product of a Gemm, else 1.
        beta: Factor of the bias of a Gemm, else 1.
    """

    scope: Scope
    node: NodeProto
    kind: Kind
    weight: Operand
    read_axes: tuple[int, int]
    bias: Operand | None = None
    groups: int = 1
    alpha: float = 1.0
    beta: float = 1.0

    # what it looks like

    @property
    def data_index(self) -> int:
        """Which input of the node is the data."""
        if self.kind == "table":
            return 1
        if self.kind == "contraction":
            return 0 if self.weight.index else 1
        return 1 if self.kind == "linear" and self.weight.index == 0 else 0

    @property
    def data(self) -> str:
        """Name of the data that the node reads."""
        return str(self.node.input[self.data_index])

    @property
    def out_axis(self) -> int:
        """Axis of the output channels in the constant as it is stored."""
        return self._stored_axis(self.read_axes[0])

    @property
    def in_axis(self) -> int:
        """Axis of the input channels in the constant as it is stored."""
        return self._stored_axis(self.read_axes[1])

    def _stored_axis(self, axis: int) -> int:
        order = self.weight.order
        return axis if order is None else order[axis]

    @property
    def out_channels(self) -> int:
        """Output channels; for a grouped ConvTranspose those of one group."""
        return self.weight.dims[self.out_axis]

    @property
    def groups_in(self) -> int:
        """Groups that the axis of the input channels counts within."""
        return self.groups if is_op(self.node, "Conv") else 1

    @property
    def groups_out(self) -> int:
        """Groups that the axis of the output channels counts within."""
        return self.groups if is_op(self.node, "ConvTranspose") else 1

    @property
    def in_channels(self) -> int:
        """Input channels, those of all groups together."""
        return self.weight.dims[self.in_axis] * self.groups_in

    @property
    def channels(self) -> int:
        """Output channels, those of all groups together."""
        return self.out_channels * self.groups_out

    @property
    def result_axis(self) -> int:
        """Axis of the output channels in the result."""
        return -1 if is_op(self.node, "MatMul") else 1

    @property
    def multiplies(self) -> bool:
        """Whether it is a Conv, ConvTranspose, MatMul or Gemm on floats."""
        return self.kind in ("conv", "linear") and self.weight.form != "integer"

    @property
    def depthwise(self) -> bool:
        """Whether it is a Conv with one input channel a group."""
        return is_op(self.node, "Conv") and self.groups > 1 and self.weight.dims[1] == 1

    @property
    def adds(self) -> bool:
        """Whether the node itself adds a bias, constant or not."""
        return not is_op(self.node, "MatMul") and any(self.node.input[2:])

    @property
    def bias_place(self) -> tuple[NodeProto, int] | None:
        """Which input of which node is the bias, or could be; None for a MatMul without one."""
        if self.bias is not None:
            return self.bias.node, self.bias.index
        return None if is_op(self.node, "MatMul") else (self.node, 2)

    # what it computes

    def values(self) -> NDArray[Any]:
        """``alpha * W`` in the shape that the node reads, of the type of the weight."""
        values = self.weight.values()
        return values if self.alpha == 1 else values * values.dtype.type(self.alpha)

    def matrix(self) -> NDArray[Any]:
        """``alpha * W`` of a linear layer as ``(in, out)``, read anew."""
        return self.values() if self.read_axes[0] % 2 else self.values().T

    def effective(self) -> tuple[Floats, Floats] | Refusal:
        """The weight and the bias that it really applies, alpha and beta included, in double.

        Returns:
            The weight in the shape that the node reads, and the bias ``(channels,)``, which is zero
            where it adds none; or why they cannot be told.
        """
        refusal = self.refusal("fixed")
        if refusal is not None:
            return refusal
        if self.bias is not None and self.bias.constant.overridable:
            return Refusal(self.node, f"its bias is listed as an input; {_FREEZE}")
        bias = np.zeros(self.channels)
        if self.bias is not None:
            shape = self.bias.constant.shape
            if shape not in ((self.channels,), (1, self.channels), (1,), (1, 1), ()):
                return Refusal(self.node, f"it adds {list(shape)}, not a value a channel")
            bias = bias + self.bias.values().astype(np.float64).reshape(-1) * self.beta
        elif self.adds:
            return Refusal(self.node, "its bias is computed at run time")
        return self.weight.values().astype(np.float64) * self.alpha, bias

    # who else reads it

    def owned_by(self, nodes: Collection[NodeProto]) -> bool:
        """Whether none but ``nodes`` reads the weight, and its values may be changed."""
        known = {id(node) for node in nodes}
        if self.weight.constant.overridable or self.weight.given_out:
            return False
        return all(id(use.node) in known for use in self.weight.readers)

    # changing it

    def scale(self, axis: Literal["in", "out"], factors: NDArray[np.float32]) -> None:
        """Multiply the weight, for all its readers, by one factor a channel: ``(channels,)``."""
        constant = self.weight.constant
        along = [1] * len(constant.shape)
        along[self.out_axis if axis == "out" else self.in_axis] = len(factors)
        constant.set(constant.values * factors.reshape(along))

    # what can be asked of it

    def refusal(self, *needs: Need) -> Refusal | None:
        """The first of the needs that it does not meet, in words; None where it meets all."""
        if self.weight.order is None:
            return Refusal(
                self.node, "a Reshape stands behind its weight; put fold-constants first"
            )
        for need in needs:
            reason = _MISSING[need](self)
            if reason:
                return Refusal(self.node, reason)
        return None


_FREEZE = "put freeze-initializers before"


def _type_missing(one: Layer) -> str:
    if (form := _form_missing(one)) or one.weight.data_type == TensorProto.FLOAT:
        return form
    kind = TensorProto.DataType.Name(one.weight.data_type).lower()
    return f"the weight is {kind}, not float; put convert-to-float32 before"


def _codes_missing(one: Layer) -> str:
    scale = one.weight.scale
    eight = one.weight.constant.data_type in (TensorProto.INT8, TensorProto.UINT8)
    if (
        eight
        and one.weight.form != "codebook"
        and scale is not None
        and scale.data_type == TensorProto.FLOAT
    ):
        return ""
    return _type_missing(one)


def _form_missing(one: Layer) -> str:
    if one.weight.form == "float":
        return ""
    expanded = one.weight.form in ("expanded", "codebook")
    return "its weight is stored in less than float32" if expanded else "it is quantized already"


def _fixed_missing(one: Layer) -> str:
    listed = f"its weight is listed as an input; {_FREEZE}"
    return listed if one.weight.constant.overridable else ""


def _right_missing(one: Layer) -> str:
    if one.kind == "linear" and one.weight.index == 0:
        return "the weight is the left operand; only right operands are supported"
    if is_op(one.node, "Gemm") and attribute(one.node, "transA", 0):
        return "transA is set, only plain left operands are supported"
    return ""


def _matrix_missing(one: Layer) -> str:
    rank = len(one.weight.dims)
    return "" if rank == 2 else f"the weight has rank {rank}, only matrices are supported"


def _finite_missing(one: Layer) -> str:
    with np.errstate(over="ignore"):  # alpha, or a number beyond those of float32
        finite = np.isfinite(np.asarray(one.values(), np.float32)).all()
    return "" if finite else "the weight holds NaN or infinity"


def _bias_missing(one: Layer) -> str:
    if one.bias is None:
        return _PLAIN_BIAS if one.adds else ""
    constant = one.bias.constant
    size = math.prod(constant.shape)
    a_channel = size == one.channels and constant.shape[-1] == size
    if one.bias.data_type not in FLOATS or not (size == 1 or a_channel):
        return _PLAIN_BIAS
    if constant.overridable:
        return f"its bias is listed as an input; {_FREEZE}"
    finite = np.isfinite(constant.values.astype(np.float64)).all()
    return "" if finite else "its bias holds NaN or infinity"


def _float32_bias_missing(one: Layer) -> str:
    kind = TensorProto.FLOAT if one.bias is None else one.bias.data_type
    if kind in FLOATS and kind != TensorProto.FLOAT:
        name = TensorProto.DataType.Name(kind).lower()
        return f"its bias is {name}, not float; put convert-to-float32 before"
    return _bias_missing(one)


_PLAIN_BIAS = "its bias is not a constant of one value per output channel"
_MISSING: Mapping[Need, Callable[[Layer], str]] = {
    "float": _form_missing,
    "float32": _type_missing,
    "codable": _codes_missing,
    "fixed": _fixed_missing,
    "right": _right_missing,
    "matrix": _matrix_missing,
    "finite": _finite_missing,
    "bias": _bias_missing,
    "float32 bias": _float32_bias_missing,
}
