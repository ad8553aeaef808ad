"""Learned integers and scales back into the graph that they came from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from graphopt.bridge.quantized.fake import FakeBias, FakeWeight, Grid
from graphopt.bridge.quantized.points import ActivationPoint, BiasPoint, Place, WeightPoint
from graphopt.bridge.tensors import from_torch
from graphopt.graph.graph import Scope
from graphopt.graph.tensors import Array

__all__ = ["put_bias", "put_scale", "put_weight", "set_read"]


def put_weight(scope: Scope, point: WeightPoint, weight: FakeWeight) -> list[str]:
    """Integers and scale of a weight; gives the names of the constants that changed."""
    codes = from_torch(weight.grid.stored(weight.values.detach()))
    constant = scope.constant(point.codes_at.name)
    assert constant is not None
    changed = set_read(scope, [point.codes_at], codes.astype(constant.values.dtype))
    scale = scope.constant(point.scale_at.name)
    assert scale is not None
    return changed + set_read(scope, [point.scale_at], _shaped(weight.grid, scale.values))


def put_scale(scope: Scope, points: Sequence[ActivationPoint], grid: Grid) -> list[str]:
    """The scale of tied activations; vectors of equal scales follow."""
    places = [place for point in points for place in point.scales_at]
    return set_read(scope, places, _shaped(grid, points[0].scale))


def put_bias(scope: Scope, point: BiasPoint, bias: FakeBias) -> list[str]:
    """Integers and scale of a bias."""
    constant = scope.constant(point.codes_at.name)
    assert constant is not None
    codes = from_torch(bias.integers()).astype(np.int32).reshape(constant.shape)
    changed = set_read(scope, [point.codes_at], codes)
    return changed + set_read(scope, [point.scale_at], _array(bias.scale(), point.scale))


def _shaped(grid: Grid, before: Array) -> Array:
    return _array(grid.scale(), before)


def _array(values: Tensor, before: Array) -> Array:
    return from_torch(values).astype(before.dtype).reshape(before.shape)


def set_read(scope: Scope, places: Sequence[Place], values: Array) -> list[str]:
    """Let some inputs of nodes read other values, and nobody else.

    A constant that only these inputs read is changed; where others read it too, the inputs get
    one of their own. A single value fills a constant of several.

    Args:
        scope: The main graph.
        places: The inputs.
        values: What they shall read.

    Returns:
        Names of the constants that changed or are new.
    """
    mine = {(id(place.node), place.index) for place in places}
    changed: list[str] = []
    for name in dict.fromkeys(place.name for place in places):
        constant = scope.constant(name)
        assert constant is not None
        before = constant.values
        after = values
        if before.shape != values.shape:
            after = np.broadcast_to(values.reshape(()), before.shape)
        if np.ascontiguousarray(after).tobytes() == before.tobytes():
            continue
        home, origin = constant.scope, constant.origin
        readers = {(id(use.node), use.index) for use in home.uses(origin)}
        if readers <= mine and not home.is_output(origin):
            constant.set(after)
            changed.append(origin)
            continue
        own = scope.add_constant(origin, np.array(after))
        for place in places:
            if place.name == name:
                scope.set_input(place.node, place.index, own)
        changed.append(own)
    return changed
