"""Weights as what each group multiplies its rows with, and the other way round."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from graphopt.facts.layers import Layer
from graphopt.graph.node import is_op

__all__ = ["blocks_of", "from_blocks"]

Floats = NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)


def blocks_of(one: Layer, values: NDArray[Number]) -> NDArray[Number]:
    """A weight as the node reads it as ``(groups, width, out)``."""
    if is_op(one.node, "ConvTranspose"):
        groups, (read, outs) = one.groups, values.shape[:2]
        blocks = values.reshape(groups, read // groups, outs, -1)
        return blocks.transpose(0, 1, 3, 2).reshape(groups, -1, outs)
    if one.kind == "conv":
        return values.reshape(one.groups, len(values) // one.groups, -1).transpose(0, 2, 1)
    return (values if one.read_axes[0] % 2 else values.T)[None]


def from_blocks(one: Layer, weight: Floats) -> Floats:
    """The other way round."""
    shape = one.weight.shape
    assert shape is not None
    if is_op(one.node, "ConvTranspose"):
        groups, _, outs = weight.shape
        blocks = weight.reshape(groups, shape[0] // groups, -1, outs)
        return blocks.transpose(0, 1, 3, 2).reshape(shape)
    if one.kind == "conv":
        return weight.transpose(0, 2, 1).reshape(shape)
    matrix: Floats = weight[0]
    return matrix if one.read_axes[0] % 2 else matrix.T
