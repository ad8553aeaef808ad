"""Which constants of a model are weights: decided by what reads them, not by their type.

Float constants are also bounds, epsilons, scales of attention, masks and tables of angles. A
weight is what a layer multiplies with or adds along a channel, or a table that rows are looked up
in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto

from graphopt.bridge.functions import without_functions
from graphopt.bridge.names import constants, scopes
from graphopt.bridge.tensors import FLOATS
from graphopt.facts.operators import KEEPS, MOVES, Kind, find, is_kind
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import is_op

__all__ = ["Roles", "roles"]

_MASKED = -1e4
"""Addends below are masks: exp of them is nothing."""
_STATISTICS = (3, 4)
_PRODUCTS: tuple[Kind, ...] = ("product", "convolution", "recurrent")


@dataclass
class Roles:
    """Names (see ``names.constants``) of what training changes.

    Attributes:
        weights: Trained by gradients.
        statistics: Running means and variances of BatchNormalization.
    """

    weights: list[str] = field(default_factory=list)
    statistics: list[str] = field(default_factory=list)


def roles(graph: Graph) -> Roles:
    """The role of every float constant that has one; all others stay as they are."""
    found = Roles()
    flat = without_functions(graph)
    depth = {id(scope): _before_products(scope) for _, scope in scopes(flat)}
    own = constants(graph)
    for name, constant in constants(flat).items():
        if name not in own or constant.data_type not in FLOATS or 0 in constant.shape:
            continue
        if _is_statistic(constant):
            found.statistics.append(name)
        elif _is_weight(constant, constant.origin, depth):
            found.weights.append(name)
    return found


def _before_products(scope: Scope) -> set[str]:
    """Tensors of the scope that a product with weights follows; bodies count as having one."""
    before: set[str] = set()
    for node in reversed(scope.nodes):
        if scope.children(node) or is_kind(node, *_PRODUCTS) or not before.isdisjoint(node.output):
            before.update(scope.reads(node))
    return before


def _is_statistic(constant: Constant) -> bool:
    return any(
        is_op(use.node, "BatchNormalization") and use.index in _STATISTICS
        for use in constant.scope.uses(constant.origin)
    )


def _is_weight(constant: Constant, name: str, before: dict[int, set[str]]) -> bool:
    """Whether some reader of ``name`` uses the constant as a weight."""
    for use in constant.scope.uses(name):
        node, index = use.node, use.index
        if _moves(node) and (index == 0 or is_op(node, "Concat")):
            moved = Constant(node.output[0], use.scope, constant.origin, None, constant.tensor)
            if any(_is_weight(moved, output, before) for output in node.output if output):
                return True
        elif _used_as_weight(constant, use.scope, node, index, before):
            return True
    return False


def _moves(node: NodeProto) -> bool:
    """Whether what a node reads first, a Concat in any place, keeps its role in the result."""
    row = find(node)
    moved = row is not None and row.kind in (*MOVES, *KEEPS) and not row.weights
    return moved or is_op(node, "Concat")


def _used_as_weight(
    constant: Constant, scope: Scope, node: NodeProto, index: int, before: dict[int, set[str]]
) -> bool:
    if is_op(node, "Einsum"):
        return len(constant.shape) > 1
    if is_op(node, "MatMul"):
        return not _only_angles(scope, node.output[0])
    if is_op(node, "Gather"):
        return index == 0 and len(constant.shape) > 1
    row = find(node)
    if row is not None and row.weights:
        return index in row.weights
    wide = sum(size > 1 for size in constant.shape)
    if is_op(node, "Mul"):
        return wide == 1
    if is_op(node, "Add"):
        if wide > 1:
            follows = node.output[0] in before.get(id(scope), set())
            return follows and not _is_mask(constant, scope, node)
        return wide == 1 or (bool(constant.shape) and _after_product(scope, node, index))
    return False


def _only_angles(scope: Scope, name: str) -> bool:
    """Whether all that is done with a tensor are sines and cosines: then it holds frequencies."""
    uses = scope.uses(name)
    return bool(uses) and all(
        is_op(use.node, "Sin", "Cos")
        or (_moves(use.node) and _only_angles(use.scope, use.node.output[0]))
        for use in uses
    )


def _is_mask(constant: Constant, scope: Scope, node: NodeProto) -> bool:
    """Whether an addend hides places from a Softmax; one that hides none is all zeros."""
    values = np.asarray(constant.values, np.float64)
    if (values <= _MASKED).any():
        return True
    return not values.any() and any(
        is_op(use.node, "Softmax") for use in scope.uses(node.output[0])
    )


def _after_product(scope: Scope, node: NodeProto, index: int) -> bool:
    """Whether the other addend is a layer's product: then even a single number is its bias."""
    source = scope.producer(node.input[1 - index])
    return source is not None and is_kind(source, *_PRODUCTS)
