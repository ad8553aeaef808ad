"""The part of a graph that computes some of its tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array

__all__ = ["extract"]


def extract(
    graph: Graph, tensors: Collection[str], held: Mapping[str, Array] | None = None
) -> Graph:
    """A copy of ``graph`` with the nodes and weights that ``tensors`` depend on, without outputs.

    Required inputs stay, needed or not, so that the same feeds fit. Weights are shared.

    Args:
        graph: Left as it is.
        tensors: Names of tensors of the main graph.
        held: Values that need not be computed: those that are read become the only inputs.
    """
    nodes = graph.main.ancestors(tensors, stop=held or ())
    part = graph.part(nodes)
    scope = part.main
    for name in tensors:
        if name in graph.main.initializers:
            scope.initializers[name] = graph.main.initializers[name]
    scope.drop_inputs(graph.main.initializers.keys() - scope.initializers.keys())
    del scope.proto.output[:]
    if held is not None:
        del scope.proto.input[:]
        for name in sorted({name for node in nodes for name in graph.main.reads(node)}):
            if name in held:
                kind = onnx.helper.np_dtype_to_tensor_dtype(held[name].dtype)
                # of a tensor of unknown rank onnxruntime 1.32 takes a Slice of the Shape as empty
                rank = [None] * held[name].ndim
                scope.add_input(onnx.helper.make_tensor_value_info(name, kind, rank))
    scope.touch()
    return part
