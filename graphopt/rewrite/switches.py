"""Layers that a run of the model switches between floats and integers, each by an input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from graphopt.facts.layers import Layer, layer
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import is_op, label
from graphopt.graph.order import sorted_nodes
from graphopt.graph.tensors import Array

__all__ = ["Switches", "with_switches"]


@dataclass(frozen=True)
class Switches:
    """A graph in which layers can be computed as integers would, and the inputs that say which.

    Attributes:
        graph: Takes the feeds of the float graph, and one bool for each layer.
        inputs: Name of that input by the label of the layer.
    """

    graph: Graph
    inputs: Mapping[str, str]

    def feed(self, on: Mapping[str, bool]) -> dict[str, Array]:
        """Values of the inputs; layers that are not named stay float."""
        return {name: np.array(on.get(each, False)) for each, name in self.inputs.items()}


def with_switches(graph: Graph, quantized: Graph, channels: Mapping[str, int]) -> Switches:
    """Put an If around each layer that a quantized form of the graph computes on integers.

        x -> Conv(W) -> y     becomes     If(s, DQ(Q(x)) -> Conv(DQ(W')) - shift, x -> Conv(W)) -> y

    The shift takes the mean error of each channel away, as a corrected bias would. Where the
    result is quantized, at once or behind an activation that the codes take over, it is rounded
    in the branch as well: a layer on integers costs both of its ends.

    Args:
        graph: In floats; left as it is.
        quantized: The same with Q and DQ; layers keep their labels.
        channels: Ranks of the results of layers whose bias can be corrected, by label.
    """
    twins = {label(node): node for node in quantized.main.nodes}
    copy = graph.copy()
    scope, inputs = copy.main, dict[str, str]()
    nodes = sorted_nodes(scope)
    for index, node in enumerate(nodes):
        name = label(node)
        own, twin = layer(scope, node), twins.get(name)
        if not isinstance(own, Layer) or twin is None or not own.multiplies:
            continue
        made = _switched(scope, own, layer(quantized.main, twin), channels.get(name))
        if made is not None:
            nodes[index] = made
            inputs[name] = made.input[0]
    scope.nodes[:] = nodes
    scope.touch()
    for name in inputs.values():
        scope.add_input(helper.make_tensor_value_info(name, TensorProto.BOOL, []))
    return Switches(copy, inputs)


def _switched(scope: Scope, own: Layer, twin: Layer | object, rank: int | None) -> NodeProto | None:
    """The If for a layer; None where its other form is not one on integers."""
    if not isinstance(twin, Layer) or twin.weight.form != "dequantized":
        return None
    dequantizer = twin.scope.producer(twin.data)
    if dequantizer is None or not is_op(dequantizer, "DequantizeLinear"):
        return None
    grid = _grid(twin.scope, dequantizer)
    if grid is None:
        return None
    name, node = scope.graph.unique_name(f"{own.node.output[0]}_integer"), own.node
    codes, read, weight = f"{name}_codes", f"{name}_read", f"{name}_weight"
    parameters = _parameters(scope, name, grid)
    stored = scope.add_constant(weight, twin.weight.values().astype(np.float32))
    rounded, plain, shifted = f"{name}_rounded", f"{name}_plain", f"{name}_result"
    branch = [
        helper.make_node("QuantizeLinear", [own.data, *parameters], [codes]),
        helper.make_node("DequantizeLinear", [codes, *parameters], [read]),
        _like(node, rounded, {own.data_index: read, own.weight.index: stored}),
    ]
    if rank is None:
        shifted = rounded
    else:
        branch += [_like(node, plain, {}), *_shift(scope, own, rank, rounded, plain, shifted)]
    behind = _grid_behind(twin)
    if behind is not None:
        ends, given = _parameters(scope, f"{name}_end", behind), shifted
        shifted = f"{name}_ended"
        branch += [
            helper.make_node("QuantizeLinear", [given, *ends], [f"{shifted}_codes"]),
            helper.make_node("DequantizeLinear", [f"{shifted}_codes", *ends], [shifted]),
        ]
    other = f"{name}_float"
    return helper.make_node(
        "If",
        [name],
        [node.output[0]],
        label(node),
        then_branch=_body(branch, f"{name}_then", shifted),
        else_branch=_body([_like(node, other, {})], f"{name}_else", other),
    )


def _grid(scope: Scope, node: NodeProto) -> list[Constant] | None:
    """Scale and zero point of a Q or DQ, where they are constants of rank 0."""
    found = [scope.constant(name) for name in node.input[1:3]]
    kept = [each for each in found if each is not None and not each.shape]
    return kept if len(kept) == 2 else None


def _grid_behind(twin: Layer) -> list[Constant] | None:
    """That of the Q which alone reads a layer's result, or the activation behind it."""
    scope, reader = twin.scope, twin.scope.only_use(twin.node.output[0])
    if reader is not None and is_op(reader.node, "Relu", "Clip"):
        reader = scope.only_use(reader.node.output[0])
    if reader is None or not is_op(reader.node, "QuantizeLinear") or reader.index:
        return None
    return _grid(scope, reader.node)


def _parameters(scope: Scope, name: str, grid: list[Constant]) -> list[str]:
    """Scale and zero point stored in a scope; their names."""
    parts = zip(("scale", "zero"), grid, strict=True)
    return [scope.add_constant(f"{name}_{part}", each.values) for part, each in parts]


def _shift(
    scope: Scope, own: Layer, rank: int, rounded: str, plain: str, result: str
) -> list[NodeProto]:
    """``rounded`` with the means of ``plain``, channel by channel."""
    error, mean = f"{result}_error", f"{result}_mean"
    axes = [axis for axis in range(rank) if axis != own.result_axis % rank]
    if scope.graph.opset < 18:
        mean_node = helper.make_node("ReduceMean", [error], [mean], axes=axes, keepdims=1)
    else:
        stored = scope.add_constant(f"{mean}_axes", np.array(axes, np.int64))
        mean_node = helper.make_node("ReduceMean", [error, stored], [mean], keepdims=1)
    return [
        helper.make_node("Sub", [rounded, plain], [error]),
        mean_node,
        helper.make_node("Sub", [rounded, mean], [result]),
    ]


def _like(node: NodeProto, output: str, inputs: Mapping[int, str]) -> NodeProto:
    """The node with another result and other inputs at some places."""
    twin = NodeProto()
    twin.CopyFrom(node)
    twin.name, twin.output[0] = output, output
    for index, name in inputs.items():
        twin.input[index] = name
    return twin


def _body(nodes: list[NodeProto], name: str, output: str) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [value])
