"""Shapes of a model whose free sizes are set to numbers that no other size is likely to have.

A Reshape that folds a free batch into the heads says nothing of its axes while the batch is a
symbol; at any number it does, and what holds at odd ones holds at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from onnx import NodeProto

from graphopt.facts.axes import Nest
from graphopt.facts.operators import is_kind, nest
from graphopt.facts.shapes import Shapes, TensorInfo
from graphopt.facts.sized import free_sizes, sized_values
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op
from graphopt.graph.tensors import Array

__all__ = ["SomeSizes", "at_some_sizes"]

_BATCH = 5
_OTHERS = ((7, 11, 13, 17, 19, 23), (64, 96, 128, 160, 192, 224), (224, 256, 288, 320, 352, 384))
"""What other free sizes are, in order; the first row at which all sizes follow is taken."""


@dataclass(frozen=True)
class SomeSizes:
    """What is known of a model at certain sizes of its inputs.

    Attributes:
        shapes: Of its tensors.
        values: Of small tensors that are computed from them.
    """

    shapes: Shapes
    values: Mapping[str, Array] = field(default_factory=dict)

    def nest(self, scope: Scope, node: NodeProto) -> Nest:
        """How the axes of a node's operands hang together at these sizes."""
        return nest(scope, node, self.shapes, self.values if _bounded(node) else None)


def at_some_sizes(graph: Graph, shapes: Shapes) -> SomeSizes:
    """What is known of each tensor when the inputs have certain sizes.

    Args:
        graph: Left as it is.
        shapes: What is known of them at any size; holds where nothing else is found, and
            altogether where nothing is free and no bounds are computed.
    """
    scope = graph.main
    bounds = [name for node in scope.nodes if _bounded(node) for name in node.input[1:] if name]
    if not free_sizes(graph) and all(scope.constant(name) is not None for name in bounds):
        return SomeSizes(shapes)
    best: tuple[int, Shapes, dict[str, Array]] | None = None
    names = {name for node in scope.nodes for name in node.output if name}
    for row in _OTHERS:
        found, values = sized_values(graph, dict(_inputs(graph, row)))
        missing = sum(found.static_shape(name) is None for name in names)
        if best is None or missing < best[0]:
            best = missing, found, values
        if not missing:
            break
    assert best is not None
    whole = Shapes({name: _known(name, best[1], shapes) for name in {*shapes, *best[1]}})
    return SomeSizes(whole, best[2])


def _bounded(node: NodeProto) -> bool:
    """Whether bounds decide how the axes of a node hang together, such as those of Slice."""
    return is_kind(node, "select", "repeat") and not is_op(node, "Gather")


def _known(name: str, first: Shapes, second: Shapes) -> TensorInfo:
    held, other = first.get(name), second.get(name)
    if held is None or (held.shape is None and other is not None):
        assert other is not None
        return other
    return held


def _inputs(graph: Graph, row: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A shape for each input; what bears one name has one size."""
    numbers: dict[str, int] = {}
    for value in graph.required_inputs:
        if not value.type.tensor_type.HasField("shape"):
            continue
        shape: list[int] = []
        for at, dim in enumerate(value.type.tensor_type.shape.dim):
            name = dim.dim_param or ("" if at == 0 else f"{value.name} {at}")
            if dim.HasField("dim_value"):
                shape.append(int(dim.dim_value))
            else:
                shape.append(_number(name, at, numbers, row))
        yield value.name, tuple(shape)


def _number(name: str, at: int, numbers: dict[str, int], row: tuple[int, ...]) -> int:
    """The size of a free axis; exporters name some as sums of others."""
    terms = [term.strip() for term in name.split("+")]
    if len(terms) > 1 and all(re.fullmatch(r"\w+", term) for term in terms):
        return sum(
            int(term) if term.isdigit() else _number(term, 1, numbers, row) for term in terms
        )
    if name not in numbers:
        others = sum(number != _BATCH for number in numbers.values())
        numbers[name] = _BATCH if at == 0 else row[others % len(row)]
    return numbers[name]
