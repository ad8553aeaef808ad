"""The weights that certain nodes use."""

from __future__ import annotations

from collections.abc import Callable

from onnx import NodeProto

from graphopt.bridge.functions import without_functions
from graphopt.bridge.names import constants
from graphopt.bridge.roles import roles
from graphopt.facts.operators import KEEPS, is_kind
from graphopt.graph.graph import Graph, Scope

__all__ = ["is_read", "weights_of"]


def weights_of(graph: Graph, chosen: Callable[[NodeProto], bool]) -> list[str]:
    """Names (see ``names.constants``) of the weights that some chosen node reads.

    A weight that is transposed, reshaped or quantized first belongs to the node behind that.
    """
    known = constants(without_functions(graph))
    return [
        name
        for name in roles(graph).weights
        if name in known and is_read(known[name].scope, known[name].origin, chosen)
    ]


def is_read(scope: Scope, name: str, chosen: Callable[[NodeProto], bool]) -> bool:
    """Whether some chosen node reads a tensor, as it is or moved."""
    for use in scope.uses(name):
        if is_kind(use.node, *KEEPS, "repeat"):
            if is_read(use.scope, use.node.output[0], chosen):
                return True
        elif chosen(use.node):
            return True
    return False
