"""The one view of a layer: a node with a constant weight, whatever form the weight is stored in."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from graphopt.facts.operands import Operand, operand
from graphopt.facts.operators import find, is_kind
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import attribute, is_op

__all__ = ["Kind", "Layer", "Need", "Refusal", "float_layers", "layer", "layers", "picks_rows"]

Kind = Literal["conv", "linear", "table", "recurrent"]
"""Conv and ConvTranspose; MatMul and Gemm; a Gather from a constant; RNN, GRU and LSTM. Operators
that compute the same on integers by definition are of the kind that they replace."""

Need = Literal["float", "float32", "fixed", "right", "matrix", "finite", "bias"]
"""What a pass may ask of a layer: a weight stored as floats of any width; as float32; that no
caller may replace; that is the right operand, the left one not transposed; of rank 2; without NaN
or infinity; and a bias, if any, that is a finite float32 constant of one value, or one a channel,
which no caller may replace."""

Floats = NDArray[np.float64]

_CODES = (
    *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4),
    *(TensorProto.INT2, TensorProto.UINT2),
)


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
        node: The node. An RNN, GRU or LSTM is two layers, one for each of its weights.
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
        return self.weight.constant.shape[self.out_axis]

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
        return self.weight.constant.shape[self.in_axis] * self.groups_in

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
        return is_op(self.node, "Conv") and self.groups > 1 and self.weight.constant.shape[1] == 1

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
            name = self.bias.constant.origin
            return Refusal(self.node, f"{name!r} is listed as an input; {_FREEZE}")
        bias = np.zeros(self.channels)
        if self.bias is not None:
            shape = self.bias.constant.shape
            if shape not in ((self.channels,), (1, self.channels), (1,), (1, 1), ()):
                return Refusal(self.node, f"it adds {list(shape)}, not a value a channel")
            bias = bias + self.bias.values().astype(np.float64).reshape(-1) * self.beta
        elif self.adds:
            return Refusal(self.node, f"{self.node.input[2]!r} is computed at run time")
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
        constant.scope.set_constant(constant, constant.values * factors.reshape(along))

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


def float_layers(graph: Graph | Scope) -> Iterator[Layer]:
    """Each Conv, ConvTranspose, MatMul and Gemm whose weight is stored as floats, in order."""
    for each in layers(graph):
        if isinstance(each, Layer) and each.multiplies and each.refusal("float") is None:
            yield each


def layers(graph: Graph | Scope) -> Iterator[Layer | Refusal]:
    """The layers of a graph with its bodies, or of a single scope, in order of the nodes.

    A Refusal stands for an operator that can have a weight where it has none to use.
    """
    for scope in graph.scopes() if isinstance(graph, Graph) else [graph]:
        for node in list(scope.nodes):
            yield from _layers_of(scope, node)


def layer(scope: Scope, node: NodeProto) -> Layer | Refusal | None:
    """The layer that a node is, or why it is none; None for operators without a weight."""
    return next(_layers_of(scope, node), None)


def _layers_of(scope: Scope, node: NodeProto) -> Iterator[Layer | Refusal]:
    if is_op(node, "MatMul", "Gemm"):
        yield _product(scope, node)
    elif is_op(node, "Conv", "ConvTranspose"):
        yield _convolution(scope, node)
    elif is_op(node, "Gather"):
        table = operand(scope, node, 0) or _codes(scope, node, 0)
        rank = 0 if table is None else len(table.constant.shape)
        if table is not None and rank >= 2:
            axis = attribute(node, "axis", 0) % rank
            yield Layer(scope, node, "table", table, (axis, rank - 1))
    elif is_kind(node, "recurrent"):
        for index in (1, 2):
            weight = operand(scope, node, index)
            if weight is not None:
                yield Layer(scope, node, "recurrent", weight, (1, 2))
    else:
        row = find(node)
        if row is not None and row.coded is not None:
            yield _integer(scope, node, *row.coded)


def picks_rows(node: NodeProto, index: int) -> bool:
    """Whether input ``index`` of ``node`` is a table whose rows a Gather looks up."""
    return is_op(node, "Gather") and index == 0 and attribute(node, "axis", 0) == 0


def _convolution(scope: Scope, node: NodeProto) -> Layer | Refusal:
    weight = operand(scope, node, 1)
    if weight is None:
        return Refusal(node, "its weight is not a float constant")
    if _fixed(operand(scope, node, 0)):
        return Refusal(node, _CONSTANT)
    groups = attribute(node, "group", 1)
    axes = (0, 1) if is_op(node, "Conv") else (1, 0)
    return Layer(scope, node, "conv", weight, axes, _third(scope, node), groups)


def _product(scope: Scope, node: NodeProto) -> Layer | Refusal:
    left, right = operand(scope, node, 0), operand(scope, node, 1)
    weight = left if right is None or (_fixed(left) and not _fixed(right)) else right
    if weight is None:
        if any(scope.constant(name) is not None for name in node.input[:2]):
            return Refusal(node, "its weight is not a float constant")
        return Refusal(node, "both operands are computed, so there is no weight")
    if _fixed(left) and _fixed(right):
        return Refusal(node, _CONSTANT)
    rank = len(weight.order or (0, 1))
    if rank < 2:
        return Refusal(node, "its constant operand is a vector, no matrix")
    if is_op(node, "MatMul"):
        axes = (rank - 1, rank - 2) if weight.index == 1 else (rank - 2, rank - 1)
        one = Layer(scope, node, "linear", weight, axes)
        return Layer(scope, node, "linear", weight, axes, _added(one))
    plain = not attribute(node, "transB" if weight.index == 1 else "transA", 0)
    axes = (1, 0) if plain is (weight.index == 1) else (0, 1)
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    return Layer(scope, node, "linear", weight, axes, _third(scope, node), alpha=alpha, beta=beta)


def _third(scope: Scope, node: NodeProto) -> Operand | None:
    """The constant that a node adds, where it reads it as it is stored."""
    bias = operand(scope, node, 2)
    return None if bias is None or bias.turned else bias


def _added(one: Layer) -> Operand | None:
    """What an Add that alone reads the result of a MatMul adds to each channel."""
    scope, result = one.scope, one.node.output[0]
    uses = scope.uses(result)
    if len(uses) != 1 or uses[0].scope is not scope or scope.is_output(result):
        return None
    if one.weight.index != 1 or not is_op(uses[0].node, "Add"):
        return None
    bias = operand(scope, uses[0].node, 1 - uses[0].index)
    return bias if bias is not None and bias.constant.shape == (one.out_channels,) else None


def _integer(
    scope: Scope, node: NodeProto, index: int, out_axis: int, in_axis: int
) -> Layer | Refusal:
    weight = _codes(scope, node, index)
    if weight is None:
        return Refusal(node, "its weight is not a constant of codes")
    out_axis, in_axis = (axis % len(weight.constant.shape) for axis in (out_axis, in_axis))
    if attribute(node, "transB", 0):
        out_axis, in_axis = in_axis, out_axis
    groups = attribute(node, "group", 1)
    kind: Kind = "conv" if "Conv" in node.op_type else "linear"
    return Layer(scope, node, kind, weight, (out_axis, in_axis), groups=groups)


def _codes(scope: Scope, node: NodeProto, index: int) -> Operand | None:
    """Integers that a node reads as they are stored."""
    constant = scope.constant(node.input[index]) if len(node.input) > index else None
    if constant is None or constant.data_type not in _CODES or not constant.shape:
        return None
    return Operand(scope, node, index, "integer", constant)


def _fixed(found: Operand | None) -> bool:
    return found is not None and not found.constant.overridable


# needs

_FREEZE = "put freeze-initializers before"
_CONSTANT = "its input is constant; fold-constants computes it once"


def _type_missing(one: Layer) -> str:
    if (form := _form_missing(one)) or one.weight.constant.data_type == TensorProto.FLOAT:
        return form
    kind = TensorProto.DataType.Name(one.weight.constant.data_type).lower()
    return f"the weight is {kind}, not float"


def _form_missing(one: Layer) -> str:
    if one.weight.form == "float":
        return ""
    expanded = one.weight.form == "expanded"
    return "its weight is stored in less than float32" if expanded else "it is quantized already"


def _fixed_missing(one: Layer) -> str:
    name = one.weight.constant.origin
    listed = f"{name!r} is listed as an input; {_FREEZE}"
    return listed if one.weight.constant.overridable else ""


def _right_missing(one: Layer) -> str:
    if one.kind == "linear" and one.weight.index == 0:
        return "the weight is the left operand; only right operands are supported"
    if is_op(one.node, "Gemm") and attribute(one.node, "transA", 0):
        return "transA is set, only plain left operands are supported"
    return ""


def _matrix_missing(one: Layer) -> str:
    rank = len(one.weight.constant.shape)
    return "" if rank == 2 else f"the weight has rank {rank}, only matrices are supported"


def _finite_missing(one: Layer) -> str:
    finite = np.isfinite(one.weight.constant.values).all()
    return "" if finite else "the weight holds NaN or infinity"


def _bias_missing(one: Layer) -> str:
    if one.bias is None:
        return _PLAIN_BIAS if one.adds else ""
    constant = one.bias.constant
    size = math.prod(constant.shape)
    a_channel = size == one.channels and constant.shape[-1] == size
    if constant.data_type != TensorProto.FLOAT or not (size == 1 or a_channel):
        return _PLAIN_BIAS
    if constant.overridable:
        return f"{constant.origin!r} is listed as an input; {_FREEZE}"
    return "" if np.isfinite(constant.values).all() else "its bias holds NaN or infinity"


_PLAIN_BIAS = "its bias is not a constant of one value per output channel"
_MISSING: Mapping[Need, Callable[[Layer], str]] = {
    "float": _form_missing,
    "float32": _type_missing,
    "fixed": _fixed_missing,
    "right": _right_missing,
    "matrix": _matrix_missing,
    "finite": _finite_missing,
    "bias": _bias_missing,
}
