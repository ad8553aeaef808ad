"""Facts of a single node: which operator it is, its attributes, what reports call it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from onnx import AttributeProto, NodeProto, OperatorSetIdProto
from onnx.helper import get_attribute_value, make_attribute

from graphopt.errors import ModelError

__all__ = [
    "DEFAULT_DOMAIN",
    "attribute",
    "in_default_domain",
    "is_op",
    "label",
    "plain_domain",
    "set_attributes",
    "versions_of",
]

DEFAULT_DOMAIN = ("", "ai.onnx")
"""The two names of ONNX's own domain, which mean the same."""


_ANY = frozenset(AttributeProto.AttributeType.values()) - {AttributeProto.UNDEFINED}
_LISTS = frozenset((AttributeProto.FLOATS, AttributeProto.INTS, AttributeProto.STRINGS))
_TYPES = {
    int: frozenset((AttributeProto.INT,)),
    float: frozenset((AttributeProto.FLOAT,)),
    str: frozenset((AttributeProto.STRING,)),
    list: _LISTS,
    tuple: _LISTS,
}
"""Types of attributes by the Python type of their default."""


def in_default_domain(node: NodeProto) -> bool:
    """Whether the node's operator is one of ONNX's own."""
    return node.domain in DEFAULT_DOMAIN


def plain_domain(name: str) -> str:
    """The one name of a domain: ONNX's own is empty."""
    return "" if name in DEFAULT_DOMAIN else name


def versions_of(imports: Iterable[OperatorSetIdProto]) -> dict[str, int]:
    """Version by domain; of several of one domain the last, as onnxruntime takes it."""
    return {plain_domain(item.domain): int(item.version) for item in imports}


def is_op(node: NodeProto, *op_types: str) -> bool:
    """Whether ``node`` is one of these operators of the default domain."""
    return node.op_type in op_types and node.domain in DEFAULT_DOMAIN


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Value of an attribute (lists as lists, strings as str); ``default`` where it is absent.

    Raises:
        ModelError: It is of another type than ``default``; None goes with any. That of ONNX's own
            operators was looked at when the model was loaded.
    """
    for item in node.attribute:
        if item.name == name and not item.ref_attr_name:
            if item.type not in _TYPES.get(type(default), _ANY):
                kind = AttributeProto.AttributeType.Name(item.type).lower()
                raise ModelError(
                    f"node {label(node)!r}: attribute {name!r} of {node.op_type} is of type {kind}"
                )
            value = get_attribute_value(item)
            if isinstance(value, bytes):
                return value.decode("utf-8", "replace")
            return list(value) if isinstance(default, list | tuple) else value
    return default


def set_attributes(node: NodeProto, drop: Collection[str] = (), **given: Any) -> None:
    """Take attributes away from a node and give it others, which stand last."""
    kept = [item for item in node.attribute if item.name not in {*drop, *given}]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(make_attribute(key, value) for key, value in given.items())


def label(node: NodeProto) -> str:
    """How a node is called in reports: its name, or its type and first output."""
    return str(node.name) or f"{node.op_type}({next(iter(node.output), '')})"
