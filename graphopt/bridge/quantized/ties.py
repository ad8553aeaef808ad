"""Which quantized activations must keep one scale in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphopt.bridge.quantized.points import ActivationPoint
from graphopt.facts.quantized import moves_data
from graphopt.graph.graph import Scope
from graphopt.graph.node import is_op

__all__ = ["tied"]


def tied(scope: Scope, points: Sequence[ActivationPoint]) -> list[ActivationPoint]:
    """The points with their ties.

    Tied are points that read the same scale, and points of equal parameters with nothing between
    them but operators that move or select values: a runtime computes those on the integers.
    """
    number = list(range(len(points)))

    def root(index: int) -> int:
        while number[index] != index:
            index = number[index]
        return index

    made_by = {output: index for index, point in enumerate(points) for output in point.outputs}
    named: dict[str, int] = {}
    for index, point in enumerate(points):
        constant = scope.constant(point.scales_at[0].name)
        assert constant is not None
        others = [named.setdefault(constant.origin, index)]
        before = made_by.get(_unmoved(scope, point.source))
        others += [] if before is None else [before]
        for other in others:
            if _same_grid(points[other], point):
                low, high = sorted((root(other), root(index)))
                number[high] = low
    return [replace(point, tie=root(index)) for index, point in enumerate(points)]


def _unmoved(scope: Scope, tensor: str) -> str:
    """The tensor whose values ``tensor`` holds, moved or selected."""
    node = scope.producer(tensor)
    while node is not None and (moves_data(node) or is_op(node, "MaxPool", "Resize")):
        tensor = node.input[0]
        node = scope.producer(tensor)
    return tensor


def _same_grid(a: ActivationPoint, b: ActivationPoint) -> bool:
    return (
        a.scale.shape == b.scale.shape
        and bool((a.scale == b.scale).all())
        and (a.codes.qmin, a.codes.qmax, a.codes.axis) == (b.codes.qmin, b.codes.qmax, b.codes.axis)
        and bool((a.codes.zero_point == b.codes.zero_point).all())
    )
