"""Weights of many zeros stored sparse, where that is smaller."""

from __future__ import annotations

from graphopt.contract.passes import Changes
from graphopt.facts.weights import WeightGroup
from graphopt.graph.sparse_tensors import sparse_bytes
from graphopt.graph.tensors import Array
from graphopt.rewrite.sparse import store_sparse

__all__ = ["store_where_smaller"]


def store_where_smaller(layer: WeightGroup, values: Array, changes: Changes) -> None:
    """Store a weight of these values sparse; it is noted, or why it stays dense."""
    constant = layer.constant
    if constant.sparse is not None:
        return
    dense, sparse = values.nbytes, sparse_bytes(values)
    if constant.node is not None:
        changes.skip(layer.name, "stays dense: it is stored in a Constant node")
    elif not values.any() or sparse >= dense:
        changes.skip(layer.name, "stays dense: sparse takes no less bytes")
    else:
        store_sparse(constant.scope, constant.origin, values)
        changes.edit(layer.name, f"stored sparse: {sparse} bytes in place of {dense}")
