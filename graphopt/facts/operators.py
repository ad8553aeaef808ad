"""One table of operators: what each does to values, and how its axes follow from each other.

Nothing else in the package holds lists of operator types: whoever needs one asks this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from onnx import NodeProto

from graphopt.facts.axes import Axes, Nest, Unknown
from graphopt.facts.axis_rules import Call, opaque
from graphopt.facts.operator import CONTRIB, Kind, Operator
from graphopt.facts.operator_rows import ROWS
from graphopt.facts.operator_rows_contrib import ROWS as CONTRIB_ROWS
from graphopt.facts.shapes import Dim, Shapes
from graphopt.graph.graph import Scope
from graphopt.graph.node import in_default_domain
from graphopt.graph.tensors import Array

__all__ = [
    "CONTRIB",
    "KEEPS",
    "LINEAR",
    "MOVES",
    "TRAINED",
    "TYPE_ATTRIBUTES",
    "Kind",
    "Operator",
    "find",
    "is_kind",
    "nest",
    "nest_of",
    "operators",
]

_TABLE: Mapping[tuple[str, str], Operator] = {
    **{("", row.name): row for row in ROWS},
    **{(CONTRIB, row.name): replace(row, domain=CONTRIB) for row in CONTRIB_ROWS},
}
_LAYOUTS = ("com.ms.internal.nhwc", "com.microsoft.nchwc")
"""Domains in which onnxruntime keeps operators of the other two under another order of axes."""

MOVES: tuple[Kind, ...] = ("view", "permute", "repeat", "select")
"""Kinds that rearrange, copy or leave out elements of their first input."""
KEEPS: tuple[Kind, ...] = ("view", "permute", "cast", "quantize")
"""Kinds whose result stands for all values of their first input, in another order or type."""
LINEAR = tuple(
    row.name for row in ROWS if row.kind in ("product", "convolution") and row.factors is not None
)
"""ONNX's own operators that are linear in a weight: Conv, ConvTranspose, Gemm and MatMul."""
TYPE_ATTRIBUTES = ("to", "dtype", "output_datatype", "output_dtype", "precision")
"""Attributes in which operators are told the element type of what they make or compute in."""

TRAINED = (*LINEAR, *(row.name for row in ROWS if row.recurrent))
"""These, and RNN, GRU and LSTM."""


def operators() -> Iterator[Operator]:
    """Every row, those of ONNX's own operators first."""
    return iter(_TABLE.values())


def find(node: NodeProto) -> Operator | None:
    """The row of a node's operator; None where the table has none.

    Nor is there one for a node of onnxruntime's domains without inputs or outputs that its
    operator cannot do without; those of ONNX's own were looked at when the model was loaded.
    """
    if in_default_domain(node):
        return _TABLE.get(("", node.op_type))
    if node.domain in _LAYOUTS:
        row = _TABLE.get(("", node.op_type)) or _TABLE.get((CONTRIB, node.op_type))
        row = row and replace(row, domain=node.domain, axes=opaque("its layout is onnxruntime's"))
    else:
        row = _TABLE.get((node.domain, node.op_type))
    return None if row is None or not node.output or len(node.input) < row.least else row


def is_kind(node: NodeProto, *kinds: Kind) -> bool:
    """Whether the operator of a node is of one of these kinds."""
    row = find(node)
    return row is not None and row.kind in kinds


def nest(
    scope: Scope, node: NodeProto, shapes: Shapes, values: Mapping[str, Array] | None = None
) -> Nest:
    """How the axes of a node's operands hang together.

    Args:
        scope: Where the node stands.
        node: The node.
        shapes: Of the tensors of its graph.
        values: Bounds and sizes that are computed, where they are known; constants are read.

    Returns:
        All axes fixed, each with the reason, where the operator is not in the table or what is
        known of the node does not suffice.
    """
    version = scope.graph.opset
    if not in_default_domain(node):
        version = next(
            (o.version for o in scope.graph.header.opset_import if o.domain == node.domain), 1
        )

    def shape(name: str) -> tuple[Dim, ...] | None:
        constant = scope.constant(name) if name else None
        info = shapes.get(name) if name else None
        if constant is not None:
            return constant.shape
        return None if info is None else info.shape

    def value(index: int) -> Array | None:
        constant = scope.constant(node.input[index])
        return (values or {}).get(node.input[index]) if constant is None else constant.values

    call = Call(node, tuple(map(shape, node.input)), tuple(map(shape, node.output)), value, version)
    return nest_of(call)


def nest_of(call: Call) -> Nest:
    """The same from shapes and constants at hand."""
    row = find(call.node)
    if row is None:
        return opaque(f"{call.node.op_type} is not in the table of operators")(call)
    try:
        made = row.axes(call)
    except Unknown as reason:
        return opaque(f"{call.node.op_type}: {reason}")(call)
    except (
        ArithmeticError,
        LookupError,
        ValueError,
        MemoryError,
    ):  # axes beyond the rank, blocks of 0
        return opaque(f"{call.node.op_type}: its attributes do not fit its shapes")(call)
    for known, given in ((made.inputs, call.inputs), (made.outputs, call.outputs)):
        for axes, dims in zip(known, given, strict=True):
            if axes is not None and dims is not None and not _fits(made, axes, dims):
                return opaque(f"{call.node.op_type}: its shapes are not as they should be")(call)
    return made


def _fits(made: Nest, axes: Axes, dims: tuple[Dim, ...]) -> bool:
    if len(axes) != len(dims):
        return False
    lengths = [made.length(axis) for axis in axes]
    return all(
        length == dim
        for length, dim in zip(lengths, dims, strict=True)
        if length is not None and isinstance(dim, int)
    )
