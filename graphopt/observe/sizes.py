"""Shapes and types that tensors have on one sample."""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass

from onnx import TensorProto

from graphopt.data.samples import Feeds
from graphopt.errors import DataError, ModelError
from graphopt.facts import shapes
from graphopt.graph.graph import Graph
from graphopt.observe.extract import extract
from graphopt.runtime.trace import trace

__all__ = ["Sizes", "shapes_on", "sizes_of"]

_NO_NUMBERS = {TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128}


@dataclass(frozen=True)
class Sizes:
    """What is known of tensors from one sample.

    Attributes:
        shapes: Shape on that sample, by name.
        floats: Names of those that are float32.
    """

    shapes: dict[str, tuple[int, ...]]
    floats: Container[str]


def shapes_on(graph: Graph, tensors: Collection[str], feeds: Feeds, threads: int) -> shapes.Shapes:
    """What is known of tensors of the main graph on one feed.

    Inferred from the shapes of the feed where that is enough; else the model is run once.
    """
    part = extract(graph, tensors)
    _fix_inputs(part, feeds)
    known = shapes.infer(part)
    if all(known.static_shape(name) is not None for name in tensors):
        return known
    fed = {name: info for name in feeds if (info := known.get(name)) is not None}
    return shapes.Shapes(fed | trace(part, feeds, threads=threads))


def sizes_of(graph: Graph, tensors: Collection[str], feeds: Feeds, threads: int) -> Sizes:
    """Shapes and types of tensors of the main graph on one feed, all of them known.

    Raises:
        DataError: A tensor does not hold real numbers.
        ModelError: The model cannot be run, or a name stands for a sequence.
    """
    known = shapes_on(graph, tensors, feeds, threads)
    found: dict[str, tuple[int, ...]] = {}
    floats = set()
    for name in tensors:
        info, shape = known.get(name), known.static_shape(name)
        if info is not None and info.data_type in _NO_NUMBERS:
            raise DataError(f"tensor {name!r} holds no real numbers; it cannot be observed")
        if shape is None:
            raise ModelError(f"no shape is known of tensor {name!r}; it cannot be observed")
        found[name] = shape
        if info is not None and info.data_type == TensorProto.FLOAT:
            floats.add(name)
    return Sizes(found, floats)


def _fix_inputs(graph: Graph, feeds: Feeds) -> None:
    """Give the declared inputs the shapes of the feed."""
    for declared in graph.main.proto.input:
        if declared.name in feeds and declared.type.HasField("tensor_type"):
            shape = declared.type.tensor_type.shape
            del shape.dim[:]
            for size in feeds[declared.name].shape:
                shape.dim.add(dim_value=size)
