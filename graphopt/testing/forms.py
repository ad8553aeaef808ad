"""The same model written otherwise, as exporters do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
from onnx import helper

__all__ = ["FORMS", "constants_as_nodes"]

_BATCH = 2


def _with_listed_initializers(model: onnx.ModelProto) -> None:
    """Every initializer is an input too, which callers may replace."""
    listed = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in listed:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.input.append(value)


def constants_as_nodes(model: onnx.ModelProto) -> None:
    """Weights in Constant nodes and behind Identity."""
    listed = {value.name for value in model.graph.input}
    made = []
    for tensor in list(model.graph.initializer):
        if tensor.name in listed:
            continue
        hidden = f"{tensor.name}_stored"
        made.append(helper.make_node("Constant", [], [hidden], f"make_{hidden}", value=tensor))
        made.append(helper.make_node("Identity", [hidden], [tensor.name], f"hide_{hidden}"))
        model.graph.initializer.remove(tensor)
    nodes = [*made, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _with_fixed_batch(model: onnx.ModelProto) -> None:
    """A number in place of a free first axis."""
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[:1]:
            if dim.dim_param:
                dim.dim_value = _BATCH


def _in_a_body(model: onnx.ModelProto) -> None:
    """All nodes in the branches of an If, with the initializers outside."""
    graph = model.graph
    branches = [_branch(graph, name) for name in ("then", "else")]
    size, taken = "size_of_first", "first_is_filled"
    nodes = [
        helper.make_node("Size", [graph.input[0].name], [size], size),
        helper.make_node("Cast", [size], [taken], taken, to=onnx.TensorProto.BOOL),
        helper.make_node(
            "If",
            [taken],
            [value.name for value in graph.output],
            "everything",
            then_branch=branches[0],
            else_branch=branches[1],
        ),
    ]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def _branch(graph: onnx.GraphProto, suffix: str) -> onnx.GraphProto:
    """The nodes of a graph as a body, with names of their own for what they compute."""
    names = {name: f"{name}_{suffix}" for node in graph.node for name in node.output if name}
    nodes = []
    for node in graph.node:
        inner = onnx.NodeProto()
        inner.CopyFrom(node)
        _rename(inner, names)
        nodes.append(inner)
    outputs = []
    for value in graph.output:
        inner_value = onnx.ValueInfoProto()
        inner_value.CopyFrom(value)
        inner_value.name = names[value.name]
        outputs.append(inner_value)
    return helper.make_graph(nodes, suffix, [], outputs)


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for field in (node.input, node.output):
        for index, name in enumerate(field):
            field[index] = names.get(name, name)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _rename(inner, names)


FORMS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "listed initializers": _with_listed_initializers,
    "constant nodes": constants_as_nodes,
    "fixed batch": _with_fixed_batch,
    "in a body": _in_a_body,
}
"""By name, functions that rewrite a model in place into one that computes the same."""
