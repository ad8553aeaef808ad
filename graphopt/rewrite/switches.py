"""A graph whose layers take other weights, and whose tensors go on a grid, from run to run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from graphopt.facts.layers import Layer, layer
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import label
from graphopt.graph.tensors import Array
from graphopt.rewrite.edit import redirect
from graphopt.rewrite.qdq import add_node
from graphopt.rewrite.values import drop_unread

__all__ = ["Grid", "Switches", "with_switches"]

Floats = NDArray[np.float32]

Grid = tuple[Constant, Constant] | None
"""Scale and zero point of a tensor, both of rank 0; None for those that each run finds itself."""


@dataclass(frozen=True)
class Switches:
    """A graph in which weights are inputs, and tensors are rounded where an input says so.

    Attributes:
        graph: Takes the feeds of the float graph, and those of ``feed``.
        weights: Name of the input for the weight by the label of the layer.
        shifts: Name of the input for what is taken off the result, by label; its shape.
        means: Name of the tensor that holds the mean of each channel of the result, by label.
        grids: Name of the bool input by tensor and whether each run finds its grid.
    """

    graph: Graph
    weights: dict[str, str] = field(default_factory=dict)
    shifts: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    means: dict[str, str] = field(default_factory=dict)
    grids: dict[tuple[str, bool], str] = field(default_factory=dict)
    _plain: dict[str, Array] = field(default_factory=dict)

    def feed(
        self,
        weights: Mapping[str, Floats],
        shifts: Mapping[str, Floats] | None = None,
        on: Collection[tuple[str, bool]] = (),
    ) -> dict[str, Array]:
        """Values of the inputs; what is not named is as in the float graph.

        Args:
            weights: By label, in the shape that the node reads.
            shifts: ``(channels,)`` by label.
            on: The grids that tensors are rounded to.
        """
        fed = dict(self._plain)
        fed |= {self.weights[name]: values for name, values in weights.items()}
        for name, values in (shifts or {}).items():
            place, shape = self.shifts[name]
            fed[place] = values.astype(np.float32).reshape(shape)
        fed |= {self.grids[each]: np.array(True) for each in on}
        return fed


def with_switches(
    graph: Graph,
    layers: Mapping[str, int | None],
    grids: Mapping[tuple[str, bool], Grid] | None = None,
) -> Switches:
    """Make inputs of the weights of layers, and put an If around tensors.

        x -> Conv(W) -> y     becomes     If(s, DQ(Q(x)), x) -> Conv(W fed) -> - shift -> y

    Args:
        graph: In floats; left as it is.
        layers: Labels of layers of the main graph, with the ranks of the results of those whose
            bias can be corrected.
        grids: By tensor and whether each run finds the grid itself.
    """
    found = Switches(graph.copy())
    scope = found.graph.main
    by_label = {label(node): node for node in scope.nodes}
    for name, rank in layers.items():
        own = layer(scope, by_label[name])
        assert isinstance(own, Layer)
        _feed_weight(scope, name, own, found)
        if rank is not None:
            _shift_result(scope, name, own, rank, found)
    now = dict[str, str]()  # of a tensor that can go on several grids, what is read of it
    for (tensor, dynamic), grid in (grids or {}).items():
        now[tensor], on = _round(scope, now.get(tensor, tensor), grid)
        found.grids[tensor, dynamic] = on
        found._plain[on] = np.array(False)
    return found


def _feed_weight(scope: Scope, name: str, own: Layer, found: Switches) -> None:
    read, values = own.node.input[own.weight.index], own.weight.values()
    fed = scope.graph.unique_name(f"{own.node.output[0]}_weight")
    scope.add_input(helper.make_tensor_value_info(fed, TensorProto.FLOAT, values.shape))
    scope.set_input(own.node, own.weight.index, fed)
    drop_unread(scope, [read])
    found.weights[name] = fed
    found._plain[fed] = np.ascontiguousarray(values, np.float32)


def _shift_result(scope: Scope, name: str, own: Layer, rank: int, found: Switches) -> None:
    """Take an input off the result of a layer, and hand out its means."""
    result, axis = own.node.output[0], own.result_axis % rank
    own.node.name = name  # an unnamed node is called by its output, which changes here
    inner = scope.graph.unique_name(f"{result}_unshifted")
    scope.set_output(own.node, 0, inner)
    taken = scope.graph.unique_name(f"{result}_shift")
    shape = tuple(own.channels if each == axis else 1 for each in range(rank))
    scope.add_input(helper.make_tensor_value_info(taken, TensorProto.FLOAT, shape))
    scope.add(helper.make_node("Sub", [inner, taken], [result], f"{name}_shifted"))
    axes = [each for each in range(rank) if each != axis]
    if scope.graph.opset < 18:
        mean = add_node(scope, "ReduceMean", [inner], f"{result}_mean", axes=axes, keepdims=0)
    else:
        stored = scope.add_constant(f"{result}_axes", np.array(axes, np.int64))
        mean = add_node(scope, "ReduceMean", [inner, stored], f"{result}_mean", keepdims=0)
    found.means[name] = mean
    found.shifts[name] = taken, shape
    found._plain[taken] = np.zeros(shape, np.float32)


def _round(scope: Scope, tensor: str, grid: Grid) -> tuple[str, str]:
    """Let all that reads a tensor read it rounded where an input says so.

    Returns:
        The name of what is read, and of the input.
    """
    uses = [use for use in scope.uses(tensor) if use.index >= 0]
    name = scope.graph.unique_name(f"{tensor}_rounded")
    on = scope.graph.unique_name(f"{name}_on")
    scope.add_input(helper.make_tensor_value_info(on, TensorProto.BOOL, []))
    codes, result = f"{name}_codes", f"{name}_floats"
    if grid is None:
        parts = [f"{name}_scale", f"{name}_zero"]
        nodes = [helper.make_node("DynamicQuantizeLinear", [tensor], [codes, *parts])]
    else:
        parts = [
            scope.add_constant(f"{name}_{part}", each.values)
            for part, each in zip(("scale", "zero"), grid, strict=True)
        ]
        nodes = [helper.make_node("QuantizeLinear", [tensor, *parts], [codes])]
    nodes.append(helper.make_node("DequantizeLinear", [codes, *parts], [result]))
    plain = f"{name}_plain"
    same = [helper.make_node("Identity", [tensor], [plain])]
    switch = helper.make_node(
        "If",
        [on],
        [name],
        name,
        then_branch=_body(nodes, f"{name}_then", result),
        else_branch=_body(same, f"{name}_else", plain),
    )
    redirect(uses, name)
    scope.add(switch)
    return name, on


def _body(nodes: list[NodeProto], name: str, output: str) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [value])
