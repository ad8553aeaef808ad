"""What a model takes and gives: whether two models fit each other's arrays."""

from __future__ import annotations

from onnx import TensorProto, ValueInfoProto

from graphopt.graph.graph import Graph

__all__ = ["compatible", "described", "fixed_batch"]


def compatible(a: ValueInfoProto, b: ValueInfoProto) -> bool:
    """Whether one array can fit both declarations; a shape that is not declared fits all."""
    first, second = a.type.tensor_type, b.type.tensor_type
    if first.elem_type != second.elem_type:
        return False
    if not (first.HasField("shape") and second.HasField("shape")):
        return True
    return len(first.shape.dim) == len(second.shape.dim) and all(
        p.dim_value == q.dim_value
        for p, q in zip(first.shape.dim, second.shape.dim, strict=True)
        if p.HasField("dim_value") and q.HasField("dim_value")
    )


def described(value: ValueInfoProto) -> str:
    """Element type and shape in words: ``float[?, 3, 8, 8]``."""
    tensor = value.type.tensor_type
    dims = [str(dim.dim_value) if dim.HasField("dim_value") else "?" for dim in tensor.shape.dim]
    return f"{TensorProto.DataType.Name(tensor.elem_type).lower()}[{', '.join(dims)}]"


def fixed_batch(graph: Graph) -> bool:
    """Whether any input that must be fed has a fixed first axis."""
    return any(
        dims and dims[0].HasField("dim_value")
        for dims in (value.type.tensor_type.shape.dim for value in graph.required_inputs)
    )
