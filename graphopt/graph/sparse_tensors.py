"""Sparse tensors: whether indices and values fit each other and the shape, to dense and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import SparseTensorProto, TensorProto

from graphopt.errors import ModelError
from graphopt.graph.tensors import Array

if TYPE_CHECKING:
    from graphopt.graph.graph import Graph

__all__ = ["check_sparse", "dense_values", "make_sparse", "sparse_bytes"]

_INDEX_BYTES = 8  # linear int64 indices: the one form that checker and runtimes agree on

_INDEX_TYPES = (TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8)
_MOST_BYTES = 2**63 - 1


def check_sparse(graph: Graph, sparse: SparseTensorProto) -> None:
    """Refuse a sparse tensor that names elements outside its shape, or none.

    Indices are ``(n,)``, counted in the dense tensor, or ``(n, rank)``; as in onnxruntime they may
    come in any order, and of any signed integer type.

    Raises:
        ModelError: Values or indices are not of that form, or an index lies outside.
    """
    values, indices = sparse.values, sparse.indices
    where = f"sparse tensor {values.name!r}"
    dims = list(sparse.dims)
    if any(dim < 0 for dim in dims):
        raise ModelError(f"{where} has a negative dimension: {dims}")
    if math.prod(dims) * _item_bytes(values) > _MOST_BYTES:
        raise ModelError(f"{where} of shape {dims} is larger than any memory")
    if len(values.dims) != 1:
        raise ModelError(f"{where}: its values have shape {list(values.dims)}, not one dimension")
    count = values.dims[0]
    if indices.data_type not in _INDEX_TYPES and count:
        raise ModelError(f"{where}: its indices are no integers")
    if list(indices.dims) not in ([count], [count, len(dims)]) and count:
        raise ModelError(
            f"{where}: indices of shape {list(indices.dims)} for {count} values of rank {len(dims)}"
        )
    if not count:
        return
    places = graph.read(indices).astype(np.int64)
    ends = np.array(dims if places.ndim == 2 else math.prod(dims), np.int64)
    outside = (places < 0) | (places >= ends)
    if outside.any():
        first = places[outside][0]
        raise ModelError(f"{where}: index {first} lies outside its shape {dims}")


def _item_bytes(values: TensorProto) -> int:
    if values.data_type == TensorProto.STRING:
        return 1
    return int(onnx.helper.tensor_dtype_to_np_dtype(values.data_type).itemsize)


def sparse_bytes(values: Array) -> int:
    """Bytes that ``values`` take as a sparse initializer: each non-zero with its index."""
    return int(np.count_nonzero(values)) * (values.dtype.itemsize + _INDEX_BYTES)


def make_sparse(graph: Graph, name: str, values: Array) -> SparseTensorProto:
    """A sparse tensor of ``values``, at least one of them not zero.

    Source: ``SparseTensorProto`` of the ONNX IR specification, version 6 and later.
    """
    flat = values.reshape(-1)
    indices = np.flatnonzero(flat).astype(np.int64)
    sparse = SparseTensorProto(dims=values.shape)
    sparse.values.CopyFrom(graph.store(name, flat[indices]))
    sparse.indices.CopyFrom(graph.store(f"{name}_indices", indices))
    return sparse


def dense_values(graph: Graph, sparse: SparseTensorProto) -> Array:
    """All elements of a sparse tensor, of which those that are not stored are zero.

    Indices are linear or rows of coordinates, as ``check_sparse`` asks.
    """
    stored = graph.read(sparse.values)
    made = np.zeros(list(sparse.dims), stored.dtype)
    if not stored.size:
        return made
    places = graph.read(sparse.indices)
    if places.ndim == 2:
        made[tuple(places.T)] = stored
    else:
        made.reshape(-1)[places] = stored
    return made
