"""Where functions of one value are flat: inputs beyond it give results that nobody tells apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from graphopt.graph.node import attribute

if TYPE_CHECKING:
    from onnx import NodeProto

    from graphopt.graph.scope import Scope

__all__ = ["EVERYWHERE", "FlatRule", "below", "below_threshold", "beyond_bounds", "beyond_ramp"]

EVERYWHERE = (-math.inf, math.inf)
"""A function that tells all its inputs apart."""

FlatRule = Callable[["Scope", "NodeProto"], tuple[float, float]]
"""Below the first and above the second of two inputs the result of a node stays the same."""


def below(low: float) -> FlatRule:
    """Flat below the same value in every node."""

    def rule(_scope: Scope, _node: NodeProto) -> tuple[float, float]:
        return low, math.inf

    return rule


def beyond_bounds(scope: Scope, node: NodeProto) -> tuple[float, float]:
    """Those of a Clip, which are attributes up to version 6, and inputs from 11 on."""
    bounds = []
    for index, name in ((1, "min"), (2, "max")):
        here = len(node.input) > index and bool(node.input[index])
        constant = scope.constant(node.input[index]) if here else None
        if here and (constant is None or constant.values.size != 1):
            return EVERYWHERE
        unbounded = EVERYWHERE[index - 1]
        given = attribute(node, name, unbounded) if constant is None else constant.values.item()
        bounds.append(float(given))
    return bounds[0], bounds[1]


def beyond_ramp(_scope: Scope, node: NodeProto) -> tuple[float, float]:
    """HardSigmoid: ``max(0, min(1, alpha x + beta))``."""
    alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    return (-beta / alpha, (1 - beta) / alpha) if alpha > 0 else EVERYWHERE


def below_threshold(_scope: Scope, node: NodeProto) -> tuple[float, float]:
    """ThresholdedRelu: the input above alpha, else 0."""
    return attribute(node, "alpha", 1.0), math.inf
