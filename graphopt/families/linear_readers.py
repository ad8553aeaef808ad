"""The linear layers of a graph by the tensor that they read."""

from __future__ import annotations

from graphopt.contract.passes import Changes, body_reason
from graphopt.facts.layers import Layer, layers
from graphopt.facts.select import select
from graphopt.facts.weights import too_small
from graphopt.graph.graph import Graph

__all__ = ["linear_readers"]


def linear_readers(
    graph: Graph,
    nodes: tuple[str, ...],
    exclude: tuple[str, ...],
    min_size: int,
    changes: Changes,
) -> dict[str, list[Layer]]:
    """Float linear layers of the main graph with a fixed weight, by the tensor that they read.

    Args:
        graph: Where to look.
        nodes: Only these; all where it is empty.
        exclude: None of these.
        min_size: None with fewer weights.
        changes: Layers that are left out are noted there with the reason.
    """
    chosen = select(graph, nodes, exclude)
    groups: dict[str, list[Layer]] = {}
    for layer in layers(graph):
        if not isinstance(layer, Layer) or layer.kind != "linear":
            continue
        if refusal := layer.refusal("right", "float32", "matrix", "fixed"):
            changes.skip(refusal)
        elif layer.scope is not graph.main:
            changes.skip(layer.node, body_reason(layer.scope))
        elif not chosen(layer.node):
            changes.skip(layer.node, "left alone by the options nodes and exclude")
        elif reason := too_small(layer.weight.constant, min_size):
            changes.skip(layer.node, reason)
        else:
            groups.setdefault(layer.data, []).append(layer)
    return groups
