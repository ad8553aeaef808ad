"""Means that stand in for branches, taken up by biases in front of them."""

from __future__ import annotations

import numpy as np

from graphopt.analysis.downstream import result_of
from graphopt.facts.layers import Layer, Refusal
from graphopt.facts.operators import find
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op
from graphopt.graph.tensors import Array
from graphopt.rewrite.absorb import absorber, store
from graphopt.rewrite.edit import bypass, only_reader
from graphopt.rewrite.values import set_values

__all__ = ["take_up"]


def take_up(graph: Graph, shapes: Shapes, total: str) -> bool:
    """Let a bias take up a constant that is added to a tensor, and the sum go.

        Conv(b) -> + x -> + mean      becomes      Conv(b + mean) -> + x

    That needs a layer whose result reaches the sum through no more than other sums, and which
    nobody else reads on the way.

    Args:
        graph: Edited.
        shapes: Of its tensors.
        total: The sum.

    Returns:
        Whether it is gone.
    """
    scope = graph.main
    node = scope.producer(total)
    if node is None or not is_op(node, "Add"):
        return False
    held = [scope.constant(name) for name in node.input]
    constant = next((each for each in held if each is not None), None)
    if constant is None or all(held):
        return False
    name = next(name for name, each in zip(node.input, held, strict=True) if each is None)
    one = _layer_before(scope, name, shapes)
    if one is None or not _adds(one, constant.values):
        return False
    return bypass(scope, node, name, total)


def _layer_before(scope: Scope, name: str, shapes: Shapes) -> Layer | None:
    """A layer that gives a tensor, or adds to it on the way."""
    maker = scope.producer(name)
    if maker is None or only_reader(scope, name) is None:
        return None
    for node in (maker, *(scope.producer(each) for each in maker.input)):
        found = None if node is None else absorber(scope, node)
        if found is not None and not isinstance(found, Refusal) and result_of(found[0]) == name:
            return found[0]
    row, size = find(maker), shapes.static_shape(name)
    if row is None or not row.adds or size is None:
        return None
    whole = [each for each in maker.input if shapes.static_shape(each) == size]
    found_before = (_layer_before(scope, each, shapes) for each in whole)
    return next((one for one in found_before if one is not None), None)


def _adds(one: Layer, rest: Array) -> bool:
    """Add a constant to the bias of a layer; False where it is no value a channel."""
    found = absorber(one.scope, one.node)
    axis = one.result_axis % rest.ndim if rest.ndim else 0
    if isinstance(found, Refusal) or rest.ndim == 0 or rest.size != rest.shape[axis]:
        return False
    place = one.bias_place
    if place is None or rest.size not in (1, one.channels):
        return False
    _, weight, bias = found
    bias = bias + rest.reshape(-1).astype(np.float64)
    if is_op(one.node, "MatMul"):
        assert one.bias is not None
        shape = one.bias.constant.shape
        if int(np.prod(shape)) != len(bias):
            return False
        set_values(one.bias, bias.reshape(shape).astype(one.bias.dtype))
        return True
    return not isinstance(store(one, weight if is_op(one.node, "Gemm") else None, bias), Refusal)
