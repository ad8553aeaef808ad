"""Layers whose channels are multiplied by factors of their own, and what those go by."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.facts.layers import Layer, layer
from graphopt.graph.graph import Scope
from graphopt.rewrite.values import drop_unread, set_values

__all__ = [
    "Side",
    "add_to_bias",
    "divide_added",
    "peaks",
    "scale_bias",
    "scale_side",
    "weight_of",
]

Floats = NDArray[np.float64]
Side = Literal["in", "out"]


def weight_of(one: Layer) -> Floats:
    """The weight of a layer as ``(groups, out, in, places)``, channels counted within a group."""
    values = one.values().astype(np.float64)
    values = np.moveaxis(values, one.read_axes, (0, 1))  # (out, in) of one group or of all
    values = values.reshape(values.shape[0], values.shape[1], -1)
    out, inner, places = values.shape
    if one.groups_out > 1:  # ConvTranspose: the inputs of all groups
        grouped = values.reshape(out, one.groups, inner // one.groups, places)
        return np.moveaxis(grouped, 1, 0)
    return values.reshape(one.groups_in, out // one.groups_in, inner, places)


def peaks(one: Layer) -> Floats:
    """Largest absolute value between two channels, ``(groups, out, in)``."""
    return np.asarray(np.abs(weight_of(one)).max(axis=3, initial=0.0))


def scale_side(one: Layer, side: Side, factors: Floats) -> None:
    """Multiply the weight of a layer by a factor for each of its channels on one side.

    Args:
        one: Nobody else reads its weight.
        side: Which channels.
        factors: One for each, those of all groups, in order.
    """
    one = _now(one)
    values = one.weight.values()
    axis = one.read_axes[0 if side == "out" else 1]
    groups = one.groups_out if side == "out" else one.groups_in
    other = one.read_axes[1 if side == "out" else 0]
    along = factors.reshape(groups, -1)
    if groups > 1:  # the other axis counts all groups, this one channels of one
        along = np.repeat(along, values.shape[other] // groups, axis=0)
        shape = [1] * values.ndim
        shape[other], shape[axis] = along.shape
        if other > axis:
            along = along.T
    else:
        shape = [1] * values.ndim
        shape[axis] = factors.size
    scaled = values.astype(np.float64) * along.reshape(shape)
    set_values(one.weight, scaled.astype(values.dtype))


def scale_bias(one: Layer, factors: Floats) -> None:
    """Multiply what the node itself adds, if it adds something, by a factor for each channel."""
    one = _now(one)
    if one.bias is None or not one.adds:
        return
    values = one.bias.values()
    scaled = np.broadcast_to(values.reshape(-1), factors.shape) * factors
    set_values(one.bias, _like(scaled, values))


def divide_added(scope: Scope, node: NodeProto, index: int, axis: int, factors: Floats) -> None:
    """Divide a constant that a node adds to every channel.

    Args:
        scope: Where the node stands.
        node: Reads the constant as its input ``index``; nobody else sees what changes.
        index: Which input.
        axis: Of the channels in the result of the node, counted from the end.
        factors: One a channel.
    """
    constant = scope.constant(node.input[index])
    assert constant is not None
    values = constant.values
    along = (factors.size, *[1] * (-axis - 1))
    divided = values.astype(np.float64) / factors.reshape(along)
    replaced = node.input[index]
    scope.set_input(node, index, scope.add_constant(constant.origin, divided.astype(values.dtype)))
    drop_unread(scope, [replaced])


def add_to_bias(one: Layer, shift: Floats) -> None:
    """Add a value for each channel to what a layer with a bias adds."""
    one = _now(one)
    assert one.bias is not None
    values = one.bias.values()
    moved = np.broadcast_to(values.reshape(-1), shift.shape) + shift / one.beta
    set_values(one.bias, _like(moved, values))


def _now(one: Layer) -> Layer:
    """A layer as it is now: others may have changed its weight since it was looked at."""
    now = layer(one.scope, one.node)
    assert isinstance(now, Layer)
    return now


def _like(values: Floats, stored: NDArray[Any]) -> NDArray[Any]:
    """Values in the type and, where they are as many, the shape of what is stored."""
    values = values.reshape(stored.shape) if values.size == stored.size else values
    return values.astype(stored.dtype)
