"""Initializers stored as their non-zero values and where these are."""

from __future__ import annotations

from graphopt.graph.graph import Scope
from graphopt.graph.sparse_tensors import make_sparse
from graphopt.graph.tensors import Array

__all__ = ["store_sparse"]


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
