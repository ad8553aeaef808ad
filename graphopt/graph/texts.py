"""Names in a model that are no text: protobuf hands out the bytes where they are not UTF-8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from onnx import FunctionProto, NodeProto, TensorProto, ValueInfoProto

from graphopt.graph import tensors
from graphopt.graph.graph import Graph

__all__ = ["illegible"]


class _Text(NamedTuple):
    """A name, what it names, and the message that it stands in."""

    text: object
    what: str
    owner: object


def illegible(graph: Graph) -> Iterator[str]:
    """Names that are not UTF-8, a sentence each, with what they name.

    Names of tensors, nodes, operators, domains, attributes, dimensions and places of external data.
    Doc strings and metadata may hold any bytes: nobody looks anything up by them.
    """
    for text, what, owner in chain(_in_header(graph), *map(_in_function, graph.header.functions)):
        if not isinstance(text, str):
            yield _sentence(text, what, owner)
    for scope in graph.scopes():
        values = (*scope.proto.input, *scope.proto.output, *scope.value_infos)
        for text, what, owner in chain(
            _of_nodes(scope.nodes), _of_values(values), _of_tensors(scope.tensors())
        ):
            if not isinstance(text, str):
                yield _sentence(text, what, owner)


def _sentence(text: object, what: str, owner: object) -> str:
    place = ""
    if isinstance(owner, NodeProto):
        hints = (owner.name, *owner.output, owner.op_type)
        named = next((hint for hint in hints if hint and isinstance(hint, str)), "")
        place = f" of node {named!r}" if named else " of a node"
    return f"the {what}{place} is not UTF-8 text: {text!r}"


def _in_header(graph: Graph) -> Iterator[_Text]:
    for item in graph.header.opset_import:
        yield _Text(item.domain, "domain of an operator set", item)


def _in_function(function: FunctionProto) -> Iterator[_Text]:
    yield _Text(function.name, "name of a function", function)
    yield _Text(function.domain, "domain of a function", function)
    for item in function.opset_import:
        yield _Text(item.domain, "domain of an operator set", item)
    for name in (*function.input, *function.output, *function.attribute):
        yield _Text(name, "name of an input, output or attribute of a function", function)
    yield from _of_nodes(function.node)
    yield from _of_values(function.value_info)


def _of_nodes(nodes: Iterable[NodeProto]) -> Iterator[_Text]:
    for node in nodes:
        yield _Text(node.op_type, "operator", node)
        yield _Text(node.domain, "domain", node)
        yield _Text(node.name, "name", node)
        for name in node.input:
            yield _Text(name, "input", node)
        for name in node.output:
            yield _Text(name, "output", node)
        for item in node.attribute:
            yield _Text(item.name, "name of an attribute", node)
            yield _Text(item.ref_attr_name, "reference of an attribute", node)


def _of_values(values: Iterable[ValueInfoProto]) -> Iterator[_Text]:
    for value in values:
        yield _Text(value.name, "name of an input, output or declared tensor", value)
        if value.type.HasField("tensor_type"):
            for dim in value.type.tensor_type.shape.dim:
                yield _Text(dim.dim_param, "name of a dimension", value)


def _of_tensors(held: Iterable[TensorProto]) -> Iterator[_Text]:
    for tensor in held:
        yield _Text(tensor.name, "name of a constant", tensor)
        if tensors.is_external(tensor):
            for entry in tensor.external_data:
                yield _Text(entry.key, "key of external data", tensor)
                yield _Text(entry.value, "value of external data", tensor)
