"""Shapes of a model whose free sizes are set to numbers that no other size is likely to have.

A Reshape that folds a free batch into the heads says nothing of its axes while the batch is a
symbol; at any number it does, and what holds at odd ones holds at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphopt.facts.shapes import Shapes, TensorInfo
from graphopt.facts.sized import free_sizes, sized
from graphopt.graph.graph import Graph

__all__ = ["at_some_sizes"]

_BATCH = 5
_OTHERS = ((7, 11, 13, 17, 19, 23), (64, 96, 128, 160, 192, 224), (224, 256, 288, 320, 352, 384))
"""What other free sizes are, in order; the first row at which all sizes follow is taken."""


def at_some_sizes(graph: Graph, shapes: Shapes) -> Shapes:
    """What is known of each tensor when the inputs have certain sizes.

    Args:
        graph: Left as it is.
        shapes: What is known of them at any size; holds where nothing else is found, and
            altogether where the inputs have no free sizes.
    """
    if not free_sizes(graph):
        return shapes
    best: tuple[int, Shapes] | None = None
    for row in _OTHERS:
        found = sized(graph, dict(_inputs(graph, row))).shapes
        names = {name for node in graph.main.nodes for name in node.output if name}
        missing = sum(found.static_shape(name) is None for name in names)
        if best is None or missing < best[0]:
            best = missing, found
        if not missing:
            break
    assert best is not None
    return Shapes({name: _known(name, best[1], shapes) for name in {*shapes, *best[1]}})


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
