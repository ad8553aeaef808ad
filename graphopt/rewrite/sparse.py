"""Constants stored as their non-zero values and where these are, and as all their values."""

from __future__ import annotations

from graphopt.graph.graph import Constant, Scope
from graphopt.graph.sparse_tensors import make_sparse
from graphopt.graph.tensors import Array

__all__ = ["store_dense", "store_sparse"]


def store_sparse(scope: Scope, name: str, values: Array) -> None:
    """Store the initializer ``name`` in sparse form.

    Args:
        scope: Where the initializer lives; its dense form goes.
        name: An initializer of the scope that is not listed as an input.
        values: Its values, at least one of them not zero.
    """
    sparse = make_sparse(scope.graph, name, values)
    del scope.initializers[name]
    scope.add_sparse(sparse)


def store_dense(constant: Constant) -> None:
    """Store all values of a constant that is stored sparse, an initializer or a Constant node."""
    values = constant.values
    if constant.node is None:
        constant.scope.drop_sparse(constant.origin)
        constant.scope.define(constant.origin, values)
    else:
        constant.set(values)
