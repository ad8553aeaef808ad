"""Initializers stored as their non-zero values and where these are."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import SparseTensorProto

from graphopt.graph.graph import Scope
from graphopt.graph.tensors import Array

__all__ = ["sparse_bytes", "store_sparse"]

_INDEX_BYTES = 8  # linear int64 indices: the one form that checker and runtimes agree on


def sparse_bytes(values: Array) -> int:
    """Bytes that ``values`` take as a sparse initializer: each non-zero with its index."""
    return int(np.count_nonzero(values)) * (values.dtype.itemsize + _INDEX_BYTES)


def store_sparse(scope: Scope, name: str, values: Array) -> None:
    """Store the initializer ``name`` in sparse form.

    Args:
        scope: Where the initializer lives; its dense form goes.
        name: An initializer of the scope that is not listed as an input.
        values: Its values, at least one of them not zero.

    Source: ``SparseTensorProto`` of the ONNX IR specification, version 6 and later.
    """
    flat = values.reshape(-1)
    indices = np.flatnonzero(flat).astype(np.int64)
    sparse = SparseTensorProto(dims=values.shape)
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(flat[indices], name))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(indices, f"{name}_indices"))
    del scope.initializers[name]
    scope.add_sparse(sparse)
