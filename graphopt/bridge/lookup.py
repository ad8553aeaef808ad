"""The function of the table that computes a node, with the node's attributes."""

from __future__ import annotations

import inspect
from typing import Any

from onnx import AttributeProto, NodeProto
from onnx.helper import get_attribute_value

import graphopt.bridge.ops  # noqa: F401 - fills the table
from graphopt.bridge.ops.table import TorchOperator, find, since_version
from graphopt.bridge.tensors import to_tensor
from graphopt.errors import ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.node import in_default_domain, label
from graphopt.graph.tensors import to_array

__all__ = ["attributes", "operator_of", "version_of"]


def version_of(graph: Graph, node: NodeProto) -> int | None:
    """The version of the operator that the node means; None if onnx does not know it."""
    domain = "" if in_default_domain(node) else node.domain
    if not domain:
        return since_version(domain, node.op_type, graph.opset)
    opsets = {each.domain: each.version for each in graph.header.opset_import}
    return since_version(domain, node.op_type, opsets.get(domain, 1))


def operator_of(graph: Graph, node: NodeProto) -> tuple[TorchOperator, int]:
    """The table's entry for a node, and the version of its operator.

    Raises:
        ModelError: There is none; the message says which node it is and what can be done.
    """
    domain = "" if in_default_domain(node) else node.domain
    version = version_of(graph, node)
    entry = None if version is None else find(domain, node.op_type, version)
    if entry is None or version is None:
        which = f"{domain}.{node.op_type}" if domain else node.op_type
        unknown = "unknown to onnx" if domain else f"unknown in opset {graph.opset}"
        meant = unknown if version is None else f"version {version}"
        raise ModelError(
            f"node {label(node)}: operator {which} ({meant}) is not in the bridge; freeze "
            "what comes up to it, so that onnxruntime computes it, or replace it by other operators"
        )
    return entry, version


def attributes(entry: TorchOperator, node: NodeProto) -> dict[str, Any]:
    """The attributes of a node as keyword arguments; graphs are left out.

    Raises:
        ModelError: An attribute has no meaning for the function.
    """
    found: dict[str, Any] = {}
    accepted = _accepted(entry)
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            continue
        if accepted is not None and attribute.name not in accepted:
            raise ModelError(
                f"node {label(node)}: attribute {attribute.name!r} of {node.op_type} is not "
                "supported in training"
            )
        found[attribute.name] = _value(attribute)
    return found


def _accepted(entry: TorchOperator) -> frozenset[str] | None:
    """Attributes that the function takes; None if it takes all."""
    try:
        parameters = inspect.signature(entry.function).parameters.values()
    except ValueError:  # torch's own functions
        return frozenset()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY) - entry.wants


def _value(attribute: AttributeProto) -> Any:
    value = get_attribute_value(attribute)
    if attribute.type == AttributeProto.STRING:
        return value.decode("utf-8", "replace")
    if attribute.type == AttributeProto.STRINGS:
        return [text.decode("utf-8", "replace") for text in value]
    if attribute.type == AttributeProto.TENSOR:
        return to_tensor(to_array(value))
    if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS):
        return list(value)
    return value
