"""One node computed at build time by the reference evaluator that comes with onnx."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto
from onnx.reference import ReferenceEvaluator

from graphopt.facts.operators import MOVES, find, is_kind
from graphopt.facts.propagation import propagates
from graphopt.graph.node import is_op
from graphopt.graph.tensors import Array

__all__ = ["NotEvaluated", "can_evaluate", "evaluate", "moves_only"]

_KNOWN_ELEMENTS = 4096


class NotEvaluated(Exception):  # noqa: N818 - no failure: the node simply stays in the graph
    """Why a node was not computed."""


def can_evaluate(node: NodeProto) -> bool:
    """Whether the operator is one that may be computed at build time.

    Its result depends on nothing but its inputs and is the same on every runtime. Quantization
    operators are missing on purpose: folded away, a layer would be float again.
    """
    row = find(node)
    return row is not None and row.exact and not row.domain


def evaluate(
    node: NodeProto, inputs: Mapping[str, Array], opset: int, max_bytes: int
) -> list[Array | None]:
    """The outputs of ``node``, in order; None for outputs that it does not name.

    Args:
        node: A node for which ``can_evaluate`` holds.
        inputs: Values of its inputs by name.
        opset: Version of the default domain.
        max_bytes: Most that the outputs may take; checked before anything is allocated.

    Raises:
        NotEvaluated: The result is too large, of unknown size, or the evaluator refuses; the
            message is a phrase for the report.
    """
    half = any(v.dtype.itemsize < 4 and v.dtype.kind not in "iub" for v in inputs.values())
    if half and not is_kind(node, *MOVES, "join", "cast"):
        # runtimes compute in float32 and round once, the evaluator rounds after every node
        raise NotEvaluated("arithmetic in half precision is left to the runtime")
    model = _model_of(node, inputs, opset)
    expected = _expected(node, model, inputs, max_bytes)
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(model).run(None, dict(inputs))
    except Exception as err:  # the evaluator raises whatever numpy does; the node stays
        raise NotEvaluated(f"the reference evaluator refuses it: {err}") from err
    values = iter(found)
    return [_checked(next(values), expected[name]) if name else None for name in node.output]


def _model_of(node: NodeProto, inputs: Mapping[str, Array], opset: int) -> onnx.ModelProto:
    """A model of this node alone; small integer inputs also as initializers, for inference."""
    graph = onnx.GraphProto(name="node")
    graph.node.add().CopyFrom(node)
    for name, values in inputs.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        graph.input.append(onnx.helper.make_tensor_value_info(name, kind, values.shape))
        if values.dtype.kind in "iu" and values.size <= _KNOWN_ELEMENTS:
            graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    imports = [onnx.helper.make_opsetid(node.domain, opset)]
    return onnx.helper.make_model(graph, opset_imports=imports)


def _expected(
    node: NodeProto, model: onnx.ModelProto, inputs: Mapping[str, Array], max_bytes: int
) -> dict[str, tuple[int, tuple[int, ...] | None]]:
    """Element type and shape of each output, its size checked."""
    try:
        inferred = onnx.shape_inference.infer_shapes(
            model, strict_mode=True, data_prop=propagates(model)
        )
    except (onnx.shape_inference.InferenceError, RuntimeError) as err:
        raise NotEvaluated(f"onnx refuses it: {str(err).splitlines()[0]}") from err
    row = find(node)
    by_values = row is not None and row.sized_by_values
    found: dict[str, tuple[int, tuple[int, ...] | None]] = {}
    total = 0
    for value in inferred.graph.output:
        kind = value.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
        known = kind.HasField("shape") and -1 not in dims
        if not known and not by_values:  # else never larger than rank x input
            raise NotEvaluated("the size of its result is not known beforehand")
        count = (
            math.prod(dims) if known else 8 * sum(v.size * max(1, v.ndim) for v in inputs.values())
        )
        total += count * _itemsize(kind.elem_type)
        found[value.name] = (kind.elem_type, tuple(dims) if known else None)
    if total > max_bytes:
        raise NotEvaluated(f"its result takes {total} bytes, max_bytes leaves {max_bytes}")
    return found


def _itemsize(kind: int) -> int:
    if kind in (TensorProto.UNDEFINED, TensorProto.STRING):
        raise NotEvaluated("its result is no numeric tensor")
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _checked(value: object, expected: tuple[int, tuple[int, ...] | None]) -> Array:
    """A result that is what shape inference promised."""
    values = np.asarray(value)
    kind, shape = expected
    if values.dtype != onnx.helper.tensor_dtype_to_np_dtype(kind):
        raise NotEvaluated(f"the reference evaluator gives {values.dtype} where onnx says {kind}")
    if shape is not None and values.shape != shape:
        raise NotEvaluated(f"the reference evaluator gives {values.shape} where onnx says {shape}")
    return values


def moves_only(node: NodeProto) -> bool:
    """Whether the node rearranges elements of its first input without computing on them."""
    return is_op(node, "Gather", "Slice", "Squeeze", "Unsqueeze", "Identity")
