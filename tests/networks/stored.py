"""The graphs of the networks without their weights, as a file of the repository keeps them.

Exporting takes torch and seconds for each network, so the graphs are stored. Weights are drawn
when a graph is read; small constants, which may belong to a formula, are kept.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

__all__ = ["STORE", "entries", "read_graph", "write_graphs"]

STORE = Path(__file__).with_name("graphs.zip")
_SMALL = 16
"""Elements of a constant that is kept."""
_DATE = (2026, 1, 1, 0, 0, 0)


def entries() -> list[str]:
    """``exporter/network`` of each stored graph."""
    with zipfile.ZipFile(STORE) as store:
        return sorted(store.namelist())


def read_graph(entry: str) -> ModelProto:
    """A stored graph with drawn weights: near to one where they have one axis, which may be a
    variance, else as large as keeps values in range."""
    with zipfile.ZipFile(STORE) as store:
        model = onnx.load_from_string(store.read(entry))
    rng = np.random.default_rng(0)
    for tensor in _tensors(model):
        if tensor.data_type == TensorProto.FLOAT and not tensor.HasField("raw_data"):
            shape = tuple(tensor.dims)
            values = rng.uniform(0.5, 1.5, shape)
            if len(shape) > 1:
                values = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    return model


def write_graphs(models: Iterator[tuple[str, ModelProto]]) -> None:
    """Store graphs by their entry, without weights and what exporters say of themselves."""
    with zipfile.ZipFile(STORE, "w", zipfile.ZIP_LZMA) as store:
        for entry, model in models:
            _strip(model)
            info = zipfile.ZipInfo(entry, _DATE)
            info.compress_type = zipfile.ZIP_LZMA
            store.writestr(info, model.SerializeToString(deterministic=True))


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        yield from (item.t for item in node.attribute if item.HasField("t"))


def _strip(model: ModelProto) -> None:
    del model.metadata_props[:]
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input,
                 *model.graph.output, *model.graph.initializer):  # fmt: skip
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for tensor in _tensors(model):
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > _SMALL:
            bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            tensor.CopyFrom(bare)
