"""Weights handed to onnxruntime by reference, so that no message holds them whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from graphopt.graph import tensors
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.library import onnxruntime

__all__ = ["lend_weights"]

_MESSAGE_BYTES = 1900 << 20  # a protobuf message ends at 2 GiB; the rest is left for the nodes
_LENT_BYTES = 64 << 10
_VALUE_FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def lend_weights(graph: Graph, model: ModelProto, options: Any) -> list[Any]:
    """Take large weights out of ``model`` and lend them to a session through its options.

    Spilled weights of the main graph are mapped from their files. Weights inside the message are
    lent only where it would pass the limit of 2 GB. External data of the model's own folder stays
    as it is: onnxruntime finds it there.

    Args:
        graph: Where ``model`` came from.
        model: ``graph.references()``; edited.
        options: Session options.

    Returns:
        What must live as long as the session does.
    """
    inside = sum(
        tensors.stored_bytes(tensor)
        for tensor in model.graph.initializer
        if not tensors.is_external(tensor)
    )
    lent: dict[str, tuple[Array, Any]] = {}
    for tensor in model.graph.initializer:
        values = _mapped(graph, tensor)
        if values is None and inside > _MESSAGE_BYTES and _movable(tensor):
            values = tensors.to_array(tensor)
        if values is None:
            continue
        value = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(values, tensor.data_type)
        lent[tensor.name] = (values, value)
        for name in _VALUE_FIELDS:
            tensor.ClearField(name)
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=f"lent-{len(lent)}")
    if lent:
        options.add_external_initializers(list(lent), [value for _, value in lent.values()])
    for tensor in tensors.walk(model):
        if graph.spill.file(tensor) is not None:
            tensor.CopyFrom(tensors.from_array(tensor.name, graph.read(tensor)))
    return list(lent.values())


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
