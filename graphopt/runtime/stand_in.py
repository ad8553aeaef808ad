"""What is run in place of a model of floats that onnxruntime has no kernels for."""

from __future__ import annotations

from onnx import TensorProto

from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.rewrite.to_float32 import NotConverted, compute_in_float32

__all__ = ["stand_in"]

_OTHERS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def stand_in(graph: Graph) -> Graph | None:
    """The same model computed in float32, with the same inputs, outputs and names of tensors.

    Returns:
        None where it computes in float32 already, or holds something that takes nothing else.
    """
    other = graph.copy()
    try:
        edits = compute_in_float32(other, _OTHERS, infer(graph), tidy=False)
    except NotConverted:
        return None
    return other if edits else None
