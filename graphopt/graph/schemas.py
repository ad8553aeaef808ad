"""Nodes against what ONNX says of their operators: inputs, outputs and attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import onnx
from onnx import AttributeProto, NodeProto

from graphopt.graph.node import in_default_domain, label

__all__ = ["NEWEST_OPSET", "OperandTypes", "means_the_same", "misuse", "operand_types"]

NEWEST_OPSET = 2**31 - 1
"""Stands for the newest version of every operator."""
_UNBOUNDED = 1 << 30
_INTERNAL = "__"  # how attributes start that runtimes add for themselves; ONNX lets them pass
_FIELDS = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    AttributeProto.TYPE_PROTO: "tp",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors",
    AttributeProto.GRAPHS: "graphs",
    AttributeProto.SPARSE_TENSORS: "sparse_tensors",
    AttributeProto.TYPE_PROTOS: "type_protos",
}
"""Where the value of an attribute lies, by its type."""
_CONSTANTS = (
    *(AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING, AttributeProto.TENSOR),
    *(AttributeProto.FLOATS, AttributeProto.INTS, AttributeProto.STRINGS),
    AttributeProto.SPARSE_TENSOR,
)
"""Types that the first attribute of a Constant may have, which is its value whatever its name."""
_MESSAGES = ("t", "g", "sparse_tensor", "tp")
"""Values that an attribute of their type cannot do without; a number that is not there is 0."""
_VALUES = frozenset(_FIELDS.values())


@dataclass(frozen=True)
class _Signature:
    """What a version of an operator asks of a node.

    ``inputs`` and ``outputs`` are the least and the largest number, ``read`` and ``made`` the
    positions that must have a name, ``attributes`` types by name.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    read: tuple[int, ...]
    made: tuple[int, ...]
    attributes: Mapping[str, int]
    required: tuple[str, ...]


def misuse(node: NodeProto, opset: int) -> Iterator[str]:
    """What a node has that its operator does not allow, or lacks, a sentence each.

    No runtime loads such a node, and who reads a node that passes need not ask whether its inputs
    are there and of which type its attributes are. Operators of other domains, and those that the
    ONNX package does not know in any version, are not judged.

    Args:
        node: All its names are text.
        opset: Version of the default domain, 1 to ``NEWEST_OPSET``.
    """
    if not node.op_type:
        yield f"node {label(node)!r} has no operator"
        return
    signature = _signature(node.op_type, opset) if in_default_domain(node) else None
    if signature is None:
        return
    for kind, names, (least, most), named in (
        ("input", node.input, signature.inputs, signature.read),
        ("output", node.output, signature.outputs, signature.made),
    ):
        count = len(names)
        if not least <= count <= most:
            yield (
                f"node {label(node)!r} has {count} {kind}s, "
                f"{node.op_type} of opset {opset} needs {_range(least, most)}"
            )
        for index in named:
            if index < count and not names[index]:
                yield f"node {label(node)!r}: {kind} {index} of {node.op_type} has no name"
    if node.op_type == "Constant":
        if not node.attribute or node.attribute[0].type not in _CONSTANTS:
            yield f"node {label(node)!r} has no value"
    elif node.attribute or signature.required:
        yield from _unfit_attributes(node, signature)


class OperandTypes(NamedTuple):
    """Element types that an input or output of an operator may have.

    Attributes:
        variable: What stands for the type; operands of the same one have the same type. Empty
            where there is but one type.
        types: As ONNX writes them, such as ``tensor(float16)``.
    """

    variable: str
    types: frozenset[str]


def operand_types(
    node: NodeProto, opset: int
) -> tuple[list[OperandTypes], list[OperandTypes]] | None:
    """The types that ONNX allows for each input and each output of a node.

    Returns:
        None for operators of other domains, and for what this version does not know.
    """
    known = _types(node.op_type, opset) if in_default_domain(node) else None
    if known is None:
        return None
    reads, makes = known
    if len(node.input) > len(reads) > 0:  # the last one stands for all that follow
        reads = reads + reads[-1:] * (len(node.input) - len(reads))
    if len(node.output) > len(makes) > 0:
        makes = makes + makes[-1:] * (len(node.output) - len(makes))
    return list(reads[: len(node.input)]), list(makes[: len(node.output)])


@cache
def _types(
    op_type: str, opset: int
) -> tuple[tuple[OperandTypes, ...], tuple[OperandTypes, ...]] | None:
    schema = _schema(op_type, opset)
    if schema is None:
        return None
    variables = {
        item.type_param_str: OperandTypes(item.type_param_str, frozenset(item.allowed_type_strs))
        for item in schema.type_constraints
    }

    def operand(formal: onnx.defs.OpSchema.FormalParameter) -> OperandTypes:
        name = formal.type_str
        return variables.get(name) or OperandTypes("", frozenset((name,)))

    return tuple(map(operand, schema.inputs)), tuple(map(operand, schema.outputs))


@cache
def _signature(op_type: str, opset: int) -> _Signature | None:
    schema = _schema(op_type, opset) or _schema(
        op_type, NEWEST_OPSET
    )  # onnxruntime has some earlier
    if schema is None:
        return None
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    return _Signature(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        tuple(i for i, formal in enumerate(schema.inputs) if formal.option == single),
        tuple(i for i, formal in enumerate(schema.outputs) if formal.option == single),
        {name: _attribute_type(item) for name, item in schema.attributes.items()},
        tuple(name for name, item in schema.attributes.items() if item.required),
    )


def means_the_same(node: NodeProto, version: int, other: int) -> bool:
    """Whether an ONNX operator of one version may be read as one of another version.

    So it is where the node is allowed in the other one as well, and what both versions know of
    attributes has the same defaults; operators that the ONNX package does not know are the same.
    """
    old, new = _schema(node.op_type, version), _schema(node.op_type, other)
    if old is None or new is None or old.since_version == new.since_version:
        return True
    if next(misuse(node, other), None) is not None or old.min_input != new.min_input:
        return False
    return all(
        new.attributes[name].default_value == item.default_value
        for name, item in old.attributes.items()
        if name in new.attributes
    )


def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


def _attribute_type(declared: onnx.defs.OpSchema.Attribute) -> int:
    kind: Any = declared.type  # an enum that the stubs of the ONNX package say nothing of
    return int(kind.value)


def _range(least: int, most: int) -> str:
    if most >= _UNBOUNDED:
        return f"{least} or more"
    return str(least) if least == most else f"{least} to {most}"


def _unfit_attributes(node: NodeProto, signature: _Signature) -> Iterator[str]:
    """Attributes of another type than the operator's, unknown, contradictory or missing ones."""
    names = [item.name for item in node.attribute]
    where = f"node {label(node)!r}"
    for item in node.attribute:
        expected = signature.attributes.get(item.name)
        if names.count(item.name) > 1:
            yield f"{where} has attribute {item.name!r} twice"
        elif expected is None:
            if not item.name.startswith(_INTERNAL):
                yield f"{where}: {node.op_type} has no attribute {item.name!r}"
        elif not item.ref_attr_name:
            yield from (f"{where}: {text}" for text in _unfit_value(item, expected, node.op_type))
    for name in signature.required:
        if name not in names:
            yield f"{where} lacks attribute {name!r}, which {node.op_type} needs"


def _unfit_value(item: AttributeProto, expected: int, op_type: str) -> Iterator[str]:
    if item.type != expected:
        yield (
            f"attribute {item.name!r} is of type {_type_name(item.type)}, "
            f"{op_type} needs {_type_name(expected)}"
        )
        return
    place = _FIELDS[item.type]
    held = [descriptor.name for descriptor, _ in item.ListFields() if descriptor.name in _VALUES]
    others = [name for name in held if name != place]
    if others:
        yield (
            f"attribute {item.name!r} is of type {_type_name(item.type)} "
            f"and holds a value in {others[0]!r}"
        )
    elif place in _MESSAGES and not held:
        yield f"attribute {item.name!r} has no value"


def _type_name(kind: int) -> str:
    return str(AttributeProto.AttributeType.Name(kind)) if kind else "undefined"
