"""Weights handed to onnxruntime by reference, so that no message holds them whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from graphopt.graph import tensors
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.library import onnxruntime

__all__ = ["lend", "lent_weights"]

_MESSAGE_BYTES = 1900 << 20  # a protobuf message ends at 2 GiB; the rest is left for the nodes
_LENT_BYTES = 64 << 10
_VALUE_FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def lent_weights(graph: Graph, model: ModelProto) -> dict[str, tuple[Array, int]]:
    """Take large weights out of ``model``, to be lent to a session through its options.

    Spilled weights of the main graph are mapped from their files. Weights inside the message are
    lent only where it would pass the limit of 2 GB. External data of the model's own folder stays
    as it is: onnxruntime finds it there.

    Args:
        graph: Where ``model`` came from.
        model: ``graph.references()``; edited.

    Returns:
        Values and ONNX type of each weight that was taken out.
    """
    inside = sum(
        tensors.stored_bytes(tensor)
        for tensor in model.graph.initializer
        if not tensors.is_external(tensor)
    )
    lent: dict[str, tuple[Array, int]] = {}
    for tensor in model.graph.initializer:
        values = _mapped(graph, tensor)
        if values is None and inside > _MESSAGE_BYTES and _movable(tensor):
            values = tensors.to_array(tensor)
        if values is None:
            continue
        lent[tensor.name] = (values, tensor.data_type)
        for name in _VALUE_FIELDS:
            tensor.ClearField(name)
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=f"lent-{len(lent)}")
    for tensor in tensors.walk(model):
        if graph.spill.file(tensor) is not None:
            tensor.CopyFrom(tensors.from_array(tensor.name, graph.read(tensor)))
    return lent


def lend(weights: Mapping[str, tuple[Array, int]], options: Any) -> list[Any]:
    """Hand weights over to a session's options; gives what must live as long as the session."""
    make = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type
    values = [make(*weight) for weight in weights.values()]
    if values:
        options.add_external_initializers(list(weights), values)
    return [weights, values]


def _mapped(graph: Graph, tensor: TensorProto) -> Array | None:
    """A view into the file of a spilled tensor; None for other ones and for packed codes."""
    path = graph.spill.file(tensor)
    if path is None or tensors.element_bits(tensor.data_type) < 8:
        return None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=tuple(tensor.dims)))


def _movable(tensor: TensorProto) -> bool:
    large = tensors.stored_bytes(tensor) >= _LENT_BYTES
    return large and not tensors.is_external(tensor) and tensors.element_bits(tensor.data_type) >= 8
