"""A model at the sizes of one run: what its tensors are as large as, functions unfolded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import ModelProto

from graphopt.facts.loop_states import settle_states
from graphopt.facts.macs import MacCount, count_macs
from graphopt.facts.shapes import Shapes, TensorInfo, infer
from graphopt.facts.size_values import compute_sizes
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array, to_array
from graphopt.graph.unfold import inlined
from graphopt.graph.weightless import weightless

__all__ = ["Sized", "free_sizes", "single", "sized", "sized_values"]


@dataclass(frozen=True)
class Sized:
    """A model at the sizes of one run.

    Attributes:
        inputs: Shapes of the inputs that the run is fed.
        shapes: Of all tensors, as far as they follow from these; names of the model.
        macs: What that run multiplies.
    """

    inputs: dict[str, tuple[int, ...]]
    shapes: Shapes
    macs: MacCount


def sized(
    graph: Graph,
    inputs: Mapping[str, Sequence[int]],
    observed: Mapping[str, TensorInfo] | None = None,
) -> Sized:
    """The model with its inputs as large as in one run.

    Where inputs are of free size, what the file declares behind them is not believed: it may be
    that of another run.

    Args:
        graph: Left as it is.
        inputs: Shapes of the inputs of that run; others are as declared.
        observed: Tensors of the main graph as that run had them.
    """
    model = _resized(graph, inputs)
    for name, info in (observed or {}).items():
        if info.shape is not None and info.data_type:
            made = onnx.helper.make_tensor_value_info(name, info.data_type, info.shape)
            model.graph.value_info.append(made)
    found = _counted(model, inputs, graph, observed)
    if found.macs.total is None and compute_sizes(model):
        found = _counted(model, inputs, graph, observed)
    if found.macs.total is None and settle_states(model, found.shapes):
        found = _counted(model, inputs, graph, observed)
    return found


def sized_values(
    graph: Graph, inputs: Mapping[str, Sequence[int]]
) -> tuple[Shapes, dict[str, Array]]:
    """Shapes at the sizes of one run, and the small values that the model computes from them.

    Args:
        graph: Left as it is.
        inputs: Shapes of the inputs of that run; others are as declared.
    """
    model = _resized(graph, inputs)
    before = {tensor.name for tensor in model.graph.initializer}
    compute_sizes(model)
    made = [tensor for tensor in model.graph.initializer if tensor.name not in before]
    return infer(Graph(model)), {tensor.name: to_array(tensor) for tensor in made}


def _resized(graph: Graph, inputs: Mapping[str, Sequence[int]]) -> ModelProto:
    """The model without weights, functions unfolded, its inputs of these shapes."""
    model = weightless(inlined(graph), keep_dims=True)
    if free_sizes(graph):
        _forget_declared(model)
    for value in model.graph.input:
        if value.name in inputs and value.type.HasField("tensor_type"):
            shape = value.type.tensor_type.shape
            del shape.dim[:]
            for size in inputs[value.name]:
                shape.dim.add(dim_value=size)
    return model


def _counted(
    model: ModelProto,
    inputs: Mapping[str, Sequence[int]],
    graph: Graph,
    observed: Mapping[str, TensorInfo] | None,
) -> Sized:
    whole = Graph(model)
    shapes = infer(whole, observed)
    fed = {name: tuple(inputs[name]) for name in graph.main.inputs if name in inputs}
    return Sized(fed, shapes, count_macs(whole, shapes))


def free_sizes(graph: Graph) -> bool:
    """Whether an input that must be fed has a size that the file leaves open."""
    return any(
        not dim.HasField("dim_value")
        for value in graph.required_inputs
        for dim in value.type.tensor_type.shape.dim
    )


def single(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs whose first axis alone is of free size, for a batch of one."""
    shapes: dict[str, tuple[int, ...]] = {}
    for value in graph.required_inputs:
        first, *rest = value.type.tensor_type.shape.dim or [None]
        if first is not None and all(dim.HasField("dim_value") for dim in rest):
            batch = first.dim_value if first.HasField("dim_value") else 1
            shapes[value.name] = (batch, *(dim.dim_value for dim in rest))
    return shapes


def _forget_declared(model: ModelProto) -> None:
    """Take away the shapes that a model declares behind its inputs."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
