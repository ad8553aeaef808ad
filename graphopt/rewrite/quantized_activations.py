"""Q and DQ on the activations of a graph, as a placement plans them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto

from graphopt.facts.layers import Layer, Refusal
from graphopt.graph.graph import Scope
from graphopt.graph.node import attribute, is_op, label
from graphopt.numerics import grids
from graphopt.numerics.grids import CODE_TYPES, CodeName
from graphopt.rewrite import qdq

__all__ = ["ActivationGrid", "Placement", "quantize_activations"]


@dataclass
class Placement:
    """The plan for one scope.

    Attributes:
        layers: The layers that become integer, in order.
        moved: Other nodes that become integer, in order.
        roots: For each tensor that gets Q and DQ the tensor whose parameters it takes: its own
            name, or that of the tensor whose values it moves.
        produced: Tensors among these that an integer kernel computes; every reader gets the
            dequantized one. Of the others only integer nodes do.
        refused: Why the other nodes of a weighted kind stay float.
        guarded: Layers that stay float and that the runtime would quantize by itself, as what they
            read comes from an integer kernel, moved at most.
    """

    layers: list[Layer] = field(default_factory=list)
    moved: list[NodeProto] = field(default_factory=list)
    roots: dict[str, str] = field(default_factory=dict)
    produced: set[str] = field(default_factory=set)
    refused: list[Refusal] = field(default_factory=list)
    guarded: list[Layer] = field(default_factory=list)

    @property
    def nodes(self) -> list[NodeProto]:
        """The nodes of the layers that become integer."""
        return [layer.node for layer in self.layers]

    def integer_nodes(self) -> set[int]:
        """``id`` of each node that computes on integers in this plan."""
        return {id(node) for node in (*self.nodes, *self.moved)}


@dataclass(frozen=True)
class ActivationGrid:
    """Scale, zero point and type of the codes of an activation."""

    scale: np.float32
    zero_point: int
    kind: CodeName

    @classmethod
    def covering(
        cls, low: float, high: float, kind: CodeName, *, symmetric: bool
    ) -> ActivationGrid:
        """The grid of a range: affine, or where signed codes must be ``symmetric`` around zero."""
        codes = CODE_TYPES[kind]
        if symmetric and codes.qmin < 0:
            return cls(grids.symmetric(max(abs(low), abs(high)), codes.qmax), 0, kind)
        return cls(*grids.affine(low, high, codes.qmin, codes.qmax), kind)


def quantize_activations(
    scope: Scope, placement: Placement, activations: Mapping[str, ActivationGrid]
) -> None:
    """Put Q and DQ where a placement wants them, and keep its float layers float.

    Args:
        scope: What was placed; its weights are integers already.
        placement: The plan.
        activations: The grid of each tensor that gets Q and DQ.
    """
    for node in scope.nodes:
        if is_op(node, "Clip") and node.output[0] in activations:
            _flatten_bounds(scope, node)
    integer = placement.integer_nodes()
    for name, grid in activations.items():
        _quantize_activation(scope, name, grid, integer, produced=name in placement.produced)
    _guard_float_layers(scope, placement.guarded)


def _quantize_activation(
    scope: Scope, tensor: str, grid: ActivationGrid, integer: set[int], *, produced: bool
) -> None:
    """Put Q and DQ on a tensor.

    Every reader of what an integer kernel makes gets the rounded tensor; of what a float node
    makes only the integer ones do.
    """
    uses = [
        use
        for use in scope.uses(tensor)
        if use.index >= 0 and (produced or (use.scope is scope and id(use.node) in integer))
    ]
    parameters = float(grid.scale), grid.zero_point, CODE_TYPES[grid.kind].dtype
    if produced and scope.is_output(tensor):
        inner = _rename_result(scope, tensor)
        result = qdq.add_quantize_dequantize(scope, inner, *parameters, uses=uses)
        last = scope.producer(result)
        assert last is not None
        scope.replace_uses(result, tensor)
        scope.set_output(last, 0, tensor)
    else:
        qdq.add_quantize_dequantize(scope, tensor, *parameters, uses=uses)


def _flatten_bounds(scope: Scope, node: NodeProto) -> None:
    """Give a Clip bounds of rank 0: onnxruntime (1.32) drops it behind a kernel only then."""
    for index in range(1, len(node.input)):
        bound = scope.constant(node.input[index]) if node.input[index] else None
        if bound is not None and bound.shape:
            values = bound.values.reshape(())
            scope.set_input(node, index, scope.add_constant(f"{bound.name}_scalar", values))


def _rename_result(scope: Scope, tensor: str) -> str:
    """Give the node that computes an output of the model another tensor to write."""
    node = scope.producer(tensor)
    assert node is not None
    node.name = label(node)  # an unnamed node is called by its output, which changes here
    inner = scope.graph.unique_name(f"{tensor}_float")
    scope.set_output(node, list(node.output).index(tensor), inner)
    return inner


def _guard_float_layers(scope: Scope, layers: Sequence[Layer]) -> None:
    """Dequantize what some float layers read once more: per channel, with equal scales.

    onnxruntime (1.22 to 1.32, WeightBiasQuantization) rewrites a float Conv, ConvTranspose or
    Gemm between a DequantizeLinear of scalar scale and a QuantizeLinear to int8 per tensor, and
    moves DequantizeLinear behind operators that only move values to get there.
    """
    guarded: dict[tuple[str, int], str] = {}
    for layer in layers:
        node, tensor = layer.node, layer.data
        axis = 0 if is_op(node, "Gemm") and attribute(node, "transA", 0) else 1
        if (tensor, axis) not in guarded:
            guarded[tensor, axis] = qdq.dequantize_per_channel(
                scope, tensor, axis, layer.in_channels, node
            )
        scope.set_input(node, 0, guarded[tensor, axis])
