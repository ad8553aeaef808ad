"""What an operator's inputs mean: weight, bias, channel axes. Lists of op types live here."""

from __future__ import annotations

from onnx import NodeProto

from graphopt.graph.graph import Scope
from graphopt.graph.node import attribute, is_op

__all__ = [
    "integer_weights",
    "picks_rows",
]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
RECURRENT = ("RNN", "GRU", "LSTM")
FLOATS = (1, 10, 11, 16)
"""ONNX element types float, float16, double, bfloat16."""
QUANTIZE_OPS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
INTEGER_OPS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
CONTRIB_INTEGER = ("QGemm", "QLinearAdd", "QLinearMul", "DynamicQuantizeMatMul", "MatMulNBits")


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
