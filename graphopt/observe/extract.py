"""The part of a graph that computes some of its tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from graphopt.graph.declared import ValueInfos
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
    part = graph.copy()
    scope = part.main
    needed = {id(node) for node in scope.ancestors(tensors, stop=held or ())}
    scope.remove([node for node in scope.nodes if id(node) not in needed])
    del scope.proto.output[:]
    scope.value_infos = ValueInfos()  # onnxruntime refuses a stale one; it infers them anew
    scope.touch()
    if held is not None:
        del scope.proto.input[:]
        scope.touch()
        for name in sorted({name for node in scope.nodes for name in scope.reads(node)}):
            if name in held:
                kind = onnx.helper.np_dtype_to_tensor_dtype(held[name].dtype)
                scope.add_input(onnx.helper.make_tensor_value_info(name, kind, None))
    kept = set(tensors)
    unread = [name for name in scope.initializers if name not in kept and not scope.is_read(name)]
    scope.drop_initializer(*unread)
    return part
