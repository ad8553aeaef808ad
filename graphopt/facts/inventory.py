"""Where the weights of a model lie: which operators read them, and how they are stored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from graphopt.facts.codebooks import codebook_weights
from graphopt.facts.cost import held_dims, parameter_constants
from graphopt.facts.operands import operand
from graphopt.facts.operators import KEEPS, is_kind
from graphopt.graph.graph import Constant, Graph, Scope, Use
from graphopt.graph.node import in_default_domain, is_op
from graphopt.graph.unfold import inlined

__all__ = ["HeldWeights", "inventory"]

_UNREAD = "nothing"
_FOLLOWED = 8  # nodes between a constant and who works with it


@dataclass(frozen=True)
class HeldWeights:
    """Weights of one sort.

    Attributes:
        reader: The operator that works with them, through what only casts, moves or dequantizes.
        stored: Element type, and whether they are stored sparse.
        tensors: How many constants they are.
        elements: Parameters.
        bytes: What they take in the file.
    """

    reader: str
    stored: str
    tensors: int
    elements: int
    bytes: int


def inventory(graph: Graph) -> list[HeldWeights]:
    """Every parameter of a model, each in one entry, those with most bytes first."""
    found: dict[tuple[str, str], list[Constant]] = {}
    graph = inlined(graph)
    coded = codebook_weights(graph)
    for constant in parameter_constants(graph):
        uses = constant.scope.uses(constant.origin)
        weight = coded.of(constant)
        readers = {_name(node) for use in uses for node in _workers(use, _FOLLOWED)}
        if weight is not None:
            readers = {_name(weight.node)}
        stored = TensorProto.DataType.Name(constant.data_type).lower()
        stored += ", sparse" if constant.sparse is not None else ""
        stored += ", codebook" if weight is not None else ""
        found.setdefault((" and ".join(sorted(readers)) or _UNREAD, stored), []).append(constant)
    made = [
        HeldWeights(
            reader,
            stored,
            len(held),
            sum(math.prod(held_dims(each, coded)) for each in held),
            sum(each.nbytes for each in held),
        )
        for (reader, stored), held in found.items()
    ]
    return sorted(made, key=lambda each: (-each.bytes, each.reader, each.stored))


def _workers(use: Use, steps: int) -> Iterator[NodeProto]:
    """The nodes that work with a constant, seen through those that hand it on."""
    if use.index < 0:
        return
    node, scope = use.node, use.scope
    if steps and (is_kind(node, *KEEPS) or _rescales(scope, node, use.index)):
        for behind in scope.uses(node.output[0]):
            yield from _workers(behind, steps - 1)
    else:
        yield node


def _rescales(scope: Scope, node: NodeProto, index: int) -> bool:
    """Whether a node multiplies a constant by another one."""
    return is_op(node, "Mul") and operand(scope, node, 1 - index) is not None


def _name(node: NodeProto) -> str:
    default = in_default_domain(node)
    return str(node.op_type) if default else f"{node.domain}:{node.op_type}"
