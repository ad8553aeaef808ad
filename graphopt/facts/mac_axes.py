"""The axes that the multiply-accumulates of a node are proportional to."""

from __future__ import annotations

from onnx import NodeProto

from graphopt.facts.axes import loops_of
from graphopt.facts.operators import nest
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Scope

__all__ = ["mac_axes"]


def mac_axes(scope: Scope, node: NodeProto, shapes: Shapes) -> dict[tuple[str, int], int]:
    """An axis for each loop of a node, with its length; the MACs are a product over them."""
    made = nest(scope, node, shapes)
    axes: list[tuple[tuple[str, int], set[str], int]] = []
    for names, known in ((node.input, made.inputs), (node.output, made.outputs)):
        for name, each in zip(names, known, strict=True):
            for number, axis in enumerate(each or ()):
                loops = {loop for loop in loops_of(axis) if made.sizes[loop] != 1}
                axes.append(((name, number), loops, made.length(axis) or 0))
    seen: set[str] = set()
    sizes: dict[tuple[str, int], int] = {}
    for place, loops, length in sorted(axes, key=lambda item: len(item[1])):
        if length and loops and not loops & seen:
            sizes[place] = length
            seen |= loops
    return sizes
