"""What an operator's inputs mean: weight, bias, channel axes. Lists of op types live here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import NodeProto

from graphopt.graph.graph import Constant, Scope
from graphopt.graph.node import attribute, is_op

__all__ = [
    "Weight",
    "depthwise",
    "integer_weights",
    "picks_rows",
    "weight_of",
    "weighted_nodes",
]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
RECURRENT = ("RNN", "GRU", "LSTM")
FLOATS = (1, 10, 11, 16)
"""ONNX element types float, float16, double, bfloat16."""
QUANTIZE_OPS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
INTEGER_OPS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
CONTRIB_INTEGER = ("QGemm", "QLinearAdd", "QLinearMul", "DynamicQuantizeMatMul", "MatMulNBits")


@dataclass(frozen=True)
class Weight:
    """The constant float weight of a node.

    Attributes:
        constant: The value.
        index: Which input of the node reads it.
        out_axis: Axis of the output channels.
        in_axis: Axis of the input channels (for a grouped Conv: of those of one group).
        bias: Constant bias that the node itself adds; None if absent or not constant.
        bias_index: Which input is the bias; None for MatMul, which has none.
        groups: Groups of a Conv or ConvTranspose, else 1.
    """

    constant: Constant
    index: int
    out_axis: int
    in_axis: int
    bias: Constant | None
    bias_index: int | None
    groups: int = 1

    @property
    def out_channels(self) -> int:
        """Output channels of the layer; for a grouped ConvTranspose those of one group."""
        return self.constant.shape[self.out_axis]

    @property
    def in_channels(self) -> int:
        """Input channels of the whole layer, all groups together."""
        size = self.constant.shape[self.in_axis]
        return size if self.in_axis == 0 else size * self.groups  # ConvTranspose counts all


def weight_of(scope: Scope, node: NodeProto) -> Weight | None:
    """The weight of a Conv, ConvTranspose, Gemm or MatMul; None if it is not a float constant.

    A MatMul counts where exactly one side is a constant of rank 2 or more; with the constant on
    the right, its axes are ``(..., in, out)``.
    """
    if not is_op(node, *WEIGHTED) or len(node.input) < 2:
        return None
    index = 1
    if is_op(node, "MatMul") and scope.constant(node.input[1]) is None:
        index = 0
    constant = scope.constant(node.input[index])
    if constant is None or constant.data_type not in FLOATS or len(constant.shape) < 2:
        return None
    if index == 0 and is_op(node, "MatMul") and scope.constant(node.input[1]) is not None:
        return None
    rank = len(constant.shape)
    bias_index = None if is_op(node, "MatMul") else 2
    bias = None
    if bias_index is not None and len(node.input) > bias_index and node.input[bias_index]:
        bias = scope.constant(node.input[bias_index])
    if is_op(node, "Conv"):
        axes = (0, 1)
    elif is_op(node, "ConvTranspose"):
        axes = (1, 0)
    elif is_op(node, "Gemm"):
        axes = (0, 1) if attribute(node, "transB", 0) else (1, 0)
    else:
        axes = (rank - 1, rank - 2) if index == 1 else (rank - 2, rank - 1)
    groups = attribute(node, "group", 1) if is_op(node, "Conv", "ConvTranspose") else 1
    return Weight(constant, index, *axes, bias, bias_index, groups)


def weighted_nodes(scope: Scope) -> Iterator[tuple[NodeProto, Weight]]:
    """Every node of the scope with a constant float weight, in order; sharers come each."""
    for node in list(scope.nodes):
        weight = weight_of(scope, node)
        if weight is not None:
            yield node, weight


def depthwise(weight: Weight) -> bool:
    """Whether a Conv has one input channel a group."""
    return weight.groups > 1 and weight.constant.shape[1] == 1


def integer_weights(scope: Scope) -> list[NodeProto]:
    """Nodes of the scope that quantize, dequantize or compute on integers already."""
    return [
        node
        for node in scope.nodes
        if is_op(node, *QUANTIZE_OPS)
        or is_op(node, *INTEGER_OPS)
        or node.op_type in CONTRIB_INTEGER
    ]


def picks_rows(node: NodeProto, index: int) -> bool:
    """Whether input ``index`` of ``node`` is a table whose rows a Gather looks up."""
    return is_op(node, "Gather") and index == 0 and attribute(node, "axis", 0) == 0
