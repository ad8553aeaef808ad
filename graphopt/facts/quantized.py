"""Reads how a graph is quantized already: the form of each weight, Q and DQ around each node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnx import NodeProto

from graphopt.facts.ops import FLOATS, WEIGHTED
from graphopt.graph.graph import Constant, Scope
from graphopt.graph.node import is_op

__all__ = [
    "Form",
    "Stored",
    "between_quantizers",
    "dequantizer",
    "integer_op",
    "is_dequantized",
    "moves_data",
    "quantizers",
    "stored",
    "weight_form",
    "weight_index",
]

Form = Literal["float", "dequantized", "expanded"]
"""How a weight is stored: as floats, as codes behind a DequantizeLinear, or as codes or half
floats behind Cast and Mul, which a runtime computes once when it loads the model."""

_INTEGER = (
    "ConvInteger",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QAttention",
    "QGemm",
)
_MOVES = (
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Shape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
_CONVERTS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_FOLLOWED = 8  # nodes between a constant and its reader that are looked through
_EXPANDING = ("Cast", "Identity", "Mul", "Reshape", "Transpose")


def integer_op(node: NodeProto) -> bool:
    """Whether an operator computes on integers by its definition (QOperator, MatMulInteger...)."""
    return node.op_type.startswith("QLinear") or node.op_type in _INTEGER


def moves_data(node: NodeProto) -> bool:
    """Whether a node only moves, copies or measures elements."""
    return is_op(node, *_MOVES)


def _producer(scope: Scope, name: str) -> tuple[Scope, NodeProto | None]:
    """Where ``name`` is computed, in this scope or around it."""
    home: Scope | None = scope
    while home is not None:
        if home.defines(name):
            return home, home.producer(name)
        home = home.parent
    return scope, None


def dequantizer(scope: Scope, name: str) -> NodeProto | None:
    """The DequantizeLinear that computes ``name``; None if something else does."""
    _, node = _producer(scope, name)
    return node if node is not None and is_op(node, "DequantizeLinear") else None


def is_dequantized(scope: Scope, name: str) -> bool:
    """Whether ``name`` is an activation that comes out of a DequantizeLinear."""
    node = dequantizer(scope, name)
    return node is not None and scope.constant(node.input[0]) is None


def quantizers(scope: Scope, name: str) -> list[NodeProto]:
    """The QuantizeLinear nodes that read ``name``."""
    return [use.node for use in scope.uses(name) if is_op(use.node, "QuantizeLinear")]


@dataclass(frozen=True)
class Stored:
    """A weight as the file keeps it."""

    form: Form
    constant: Constant


def stored(scope: Scope, name: str) -> Stored | None:
    """The constant behind ``name``, through what expands it; None where there is none."""
    form: Form = "float"
    for _ in range(_FOLLOWED):
        constant = scope.constant(name)
        if constant is not None:
            known = form != "float" or constant.data_type in FLOATS
            return Stored(form, constant) if known else None
        scope, node = _producer(scope, name)
        if node is None:
            return None
        if is_op(node, "DequantizeLinear"):
            form = "dequantized"
        elif is_op(node, "Cast") or (is_op(node, "Mul") and form == "float"):
            form = "expanded" if form == "float" else form
        elif not is_op(node, *_EXPANDING):
            return None
        if is_op(node, "Mul") and scope.constant(node.input[1]) is None:
            return None
        name = node.input[0]
    return None


def weight_index(scope: Scope, node: NodeProto) -> int | None:
    """Which input of a Conv, ConvTranspose, Gemm or MatMul is a constant weight in any form."""
    if not is_op(node, *WEIGHTED) or len(node.input) < 2:
        return None
    known = [stored(scope, name) for name in node.input[:2]]
    if all(known):
        return None
    for index in (1, 0) if is_op(node, "MatMul", "Gemm") else (1,):
        found = known[index]
        if found is not None and len(found.constant.shape) >= 2:
            return index
    return None


def weight_form(scope: Scope, node: NodeProto) -> Form | None:
    """How the weight of a node is stored; None where it has none."""
    index = weight_index(scope, node)
    if index is None:
        return None
    found = stored(scope, node.input[index])
    return None if found is None else found.form


def between_quantizers(scope: Scope, node: NodeProto) -> bool:
    """Whether a node was quantized: it reads dequantized tensors and its result is quantized.

    MatMul, Add, Mul and Concat count without the latter where all they read is dequantized.
    """
    if node.op_type in _CONVERTS or not node.output:
        return False
    read = [name for name in node.input if name]
    if not any(is_dequantized(scope, name) for name in read):
        return False
    if quantizers(scope, node.output[0]):
        return True
    combines = is_op(node, "MatMul", "Add", "Mul", "Concat")
    return combines and all(dequantizer(scope, name) is not None for name in read)
