"""Which tensors go on a grid with a layer: read off a graph in which all layers are integer."""

from __future__ import annotations

from onnx import NodeProto

from graphopt.facts.layers import Layer
from graphopt.graph.graph import Constant, Scope
from graphopt.graph.node import is_op

__all__ = ["grid_of", "rounded_tensors"]


def rounded_tensors(one: Layer, known: Scope) -> dict[str, tuple[Constant, Constant]]:
    """The tensors on both ends of a layer that are rounded, each with scale and zero point.

    Args:
        one: A layer of a graph with Q and DQ.
        known: The same graph in floats; a tensor that only it does not have is left out.
    """
    ends = [_in_front(one.scope, one.data), _behind(one)]
    found = {}
    for quantizer in ends:
        grid = None if quantizer is None else grid_of(one.scope, quantizer)
        if quantizer is not None and grid is not None and known.uses(quantizer.input[0]):
            found[quantizer.input[0]] = grid
    return found


def grid_of(scope: Scope, node: NodeProto) -> tuple[Constant, Constant] | None:
    """Scale and zero point of a Q or DQ, where they are constants of rank 0."""
    scale, zero = (scope.constant(name) for name in node.input[1:3])
    if scale is None or zero is None or scale.shape or zero.shape:
        return None
    return scale, zero


def _in_front(scope: Scope, data: str) -> NodeProto | None:
    """The Q whose codes a layer reads; of several that only hand the same codes on, the first."""
    quantizer = _quantizer(scope, data)
    mover = None if quantizer is None else scope.producer(quantizer.input[0])
    before = _in_front(scope, mover.input[0]) if mover is not None and mover.input else None
    if quantizer is None or before is None:
        return quantizer
    grids = [grid_of(scope, each) for each in (quantizer, before)]
    if None in grids:
        return quantizer
    same = all(
        a.values == b.values
        for a, b in zip(*(grid for grid in grids if grid is not None), strict=True)
    )
    return before if same else quantizer


def _quantizer(scope: Scope, data: str) -> NodeProto | None:
    """The Q in front of the DQ that makes a tensor."""
    dequantizer = scope.producer(data)
    if dequantizer is None or not is_op(dequantizer, "DequantizeLinear"):
        return None
    quantizer = scope.producer(dequantizer.input[0])
    return quantizer if quantizer is not None and is_op(quantizer, "QuantizeLinear") else None


def _behind(one: Layer) -> NodeProto | None:
    """The Q which alone reads a layer's result, or the activation behind it."""
    scope, reader = one.scope, one.scope.only_use(one.node.output[0])
    if reader is not None and is_op(reader.node, "Relu", "Clip"):
        reader = scope.only_use(reader.node.output[0])
    if reader is None or not is_op(reader.node, "QuantizeLinear") or reader.index:
        return None
    return reader.node
