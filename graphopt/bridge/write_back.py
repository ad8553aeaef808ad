"""Trained tensors back into the graph they came from."""

from __future__ import annotations

from torch import Tensor

from graphopt.bridge.module import GraphModule
from graphopt.bridge.names import constants
from graphopt.bridge.tensors import from_torch
from graphopt.errors import UsageError
from graphopt.graph.graph import Graph

__all__ = ["write_back"]


def write_back(module: GraphModule, graph: Graph) -> list[str]:
    """Put the module's weights and statistics into ``graph`` where their values differ.

    Nothing else changes: no node, no name, no tensor whose bits are the same.

    Args:
        module: Made by ``to_torch`` of this graph, or of one with the same constants.
        graph: Takes the values, in the types that it has.

    Returns:
        Names of the constants that changed.

    Raises:
        UsageError: The graph does not hold a constant of the module, or in another shape.
    """
    known = constants(graph)
    changed: list[str] = []
    held: list[tuple[str, Tensor]] = [*module.weights(), *module.statistics()]
    for name, tensor in held:
        constant = known.get(name)
        if constant is None or constant.shape != tuple(tensor.shape):
            raise UsageError(
                f"constant {name!r} of shape {tuple(tensor.shape)} is not in the graph; "
                "weights go back into the graph they came from"
            )
        before = constant.values
        after = from_torch(tensor).astype(before.dtype)
        if before.tobytes() != after.tobytes():
            constant.set(after)
            changed.append(name)
    return changed
