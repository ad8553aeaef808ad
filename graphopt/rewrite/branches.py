"""Branches that are added to something, taken out: what is left of them is a constant."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto
from onnx.helper import make_node

from graphopt.facts.operators import find
from graphopt.graph.graph import Graph, Scope, Use
from graphopt.graph.node import attribute
from graphopt.graph.tensors import Array
from graphopt.rewrite.edit import redirect

__all__ = ["silence", "unspoken"]

_NORMALIZES = 17
"""Opset from which on ONNX has LayerNormalization."""


def unspoken(graph: Graph, node: NodeProto) -> str:
    """Why a node cannot read a constant in place of a branch; empty where it can."""
    row = find(node)
    if row is None or not row.skips or graph.opset >= _NORMALIZES:
        return ""
    return f"it normalizes as well, which opset {graph.opset} has no operator for alone; upgrade it"


def silence(scope: Scope, branch: str, uses: Iterable[Use], rest: Array) -> str:
    """Let sums read a constant in place of a branch; what made it is for the caller to remove.

    A node that normalizes the sum as well becomes two, of which the first adds.

    Args:
        scope: Edited.
        branch: What the branch gives.
        uses: Where sums read it.
        rest: What is left of it, which is broadcast to its shape.

    Returns:
        The name of the constant.
    """
    name = scope.add_constant(f"{branch}_mean", rest)
    for use in list(uses):
        row = find(use.node)
        if row is not None and row.skips:
            _add_first(scope, use, name)
        else:
            redirect([use], name)
    return name


def _add_first(scope: Scope, use: Use, rest: str) -> None:
    """SkipLayerNormalization as an Add, or two with its bias, and a LayerNormalization."""
    node, behind = use.node, scope.following(use.node)
    normal, _, _, total = [*node.output, "", "", ""][:4]
    _, _, scale, shift, bias = [*node.input, "", "", ""][:5]
    unique = scope.graph.unique_name
    total = total or unique(f"{normal}_sum")
    terms = [node.input[1 - use.index], rest]
    made = []
    if bias:
        made.append(make_node("Add", terms, [unique(f"{normal}_biased")], unique(node.name)))
        terms = [made[0].output[0], bias]
    made.append(make_node("Add", terms, [total], unique(node.name)))
    read = [total, scale, shift] if shift else [total, scale]
    epsilon = attribute(node, "epsilon", 1e-12)
    made.append(
        make_node("LayerNormalization", read, [normal], node.name, axis=-1, epsilon=epsilon)
    )
    scope.remove([node])
    scope.add(*made, before=behind)
