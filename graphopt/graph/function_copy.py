"""The nodes of a local function as one call of it means them."""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, helper

if TYPE_CHECKING:
    from graphopt.graph.graph import Graph

__all__ = ["FunctionCopy"]


@dataclass
class FunctionCopy:
    """Copies nodes of a function for one call.

    Attributes:
        graph: Where the copies will stand.
        call: The call.
        function: What it calls.
        names: Tensors of the function by the names that they have in the graph. Inputs and
            outputs have those of the call; what the call leaves out is empty.
    """

    graph: Graph
    call: NodeProto
    function: FunctionProto
    names: dict[str, str] = field(default_factory=lambda: {"": ""})

    def __post_init__(self) -> None:
        call, function = self.call, self.function
        self._prefix = call.name or next(filter(None, call.output), call.op_type)
        self.names.update(dict.fromkeys(function.input, ""))
        self.names.update(zip(function.input, call.input, strict=False))
        for inner, outer in zip(function.output, call.output, strict=False):
            if outer:
                self.names.setdefault(inner, outer)
        self._given = {item.name: item for item in function.attribute_proto}
        self._given.update({item.name: item for item in call.attribute})

    def node(self, node: NodeProto) -> NodeProto:
        """A copy of one node of the function."""
        copy = NodeProto()
        copy.CopyFrom(node)
        self._adapt(copy)
        return copy

    def outputs(self, made: list[NodeProto]) -> list[NodeProto]:
        """Nodes for the outputs that the call names and none of ``made`` computes."""
        computed = {name for node in made for name in node.output}
        copies = []
        for inner, outer in zip(self.function.output, self.call.output, strict=False):
            if outer and outer not in computed:
                name = self.graph.unique_name(f"{self._prefix}/Identity")
                copies.append(helper.make_node("Identity", [self.names[inner]], [outer], name))
                computed.add(outer)
        return copies

    def _adapt(self, node: NodeProto) -> None:
        node.name = self.graph.unique_name(f"{self._prefix}/{node.name or node.op_type}")
        self._rename(cast("MutableSequence[str]", node.input))
        self._rename(cast("MutableSequence[str]", node.output))
        attributes = [bound for item in node.attribute if (bound := self._bound(item)) is not None]
        del node.attribute[:]
        node.attribute.extend(attributes)
        for item in node.attribute:
            if item.type == AttributeProto.GRAPH:
                self._adapt_body(item.g)

    def _bound(self, item: AttributeProto) -> AttributeProto | None:
        """An attribute with its value; None where it is one of the call that has none."""
        bound = AttributeProto()
        if not item.ref_attr_name:
            bound.CopyFrom(item)
            return bound
        given = self._given.get(item.ref_attr_name)
        if given is None:
            return None
        bound.CopyFrom(given)
        bound.name = item.name
        return bound

    def _adapt_body(self, body: GraphProto) -> None:
        for node in body.node:
            self._adapt(node)
        for value in (*body.input, *body.output, *body.value_info):
            value.name = self._name(value.name)
        for tensor in (*body.initializer, *(sparse.values for sparse in body.sparse_initializer)):
            tensor.name = self._name(tensor.name)
        for annotation in body.quantization_annotation:
            annotation.tensor_name = self._name(annotation.tensor_name)
            for entry in annotation.quant_parameter_tensor_names:
                entry.value = self._name(entry.value)

    def _rename(self, names: MutableSequence[str]) -> None:
        for index, name in enumerate(names):
            names[index] = self._name(name)

    def _name(self, inner: str) -> str:
        if inner not in self.names:
            self.names[inner] = self.graph.unique_name(f"{self._prefix}/{inner}")
        return self.names[inner]
