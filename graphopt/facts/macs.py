"""Multiply-accumulates: what a run of a model multiplies, or why nobody knows.

A *MAC* is one multiplication with its addition in a convolution, matrix product or recurrent
layer; bias, pooling and elementwise operators count nothing. What is unknown makes the whole
unknown: a sum without it would be too small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnx import NodeProto

from graphopt.facts.operators import find
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import attribute, in_default_domain, is_op, label

__all__ = ["MacCount", "count_macs", "node_macs"]

_CLASSIC = "ai.onnx.ml"
"""Trees, scalers and the like; those that multiply hold ``coefficients``."""


@dataclass(frozen=True)
class MacCount:
    """Multiply-accumulates of one run of a model.

    Attributes:
        total: Of all nodes; None where those of one of them are unknown.
        missing: Which node that is, and why; empty where all are known.
    """

    total: int | None
    missing: str = ""


class _UnknownError(Exception):
    """The MACs of a node cannot be counted; the message says which and why."""

    def __init__(self, node: NodeProto, why: str) -> None:
        super().__init__(f"{node.op_type} {label(node)!r}: {why}")


def count_macs(graph: Graph, shapes: Shapes) -> MacCount:
    """MACs of one run of the model.

    Of the branches of an If the costlier one counts; the body of a Loop counts as often as a
    constant says that it runs, that of a Scan as often as its inputs are long. Functions count
    where they were unfolded (``graphopt.facts.sized``).

    Args:
        graph: The model.
        shapes: Of its tensors in that run.
    """
    try:
        return MacCount(_scope_macs(graph.main, shapes))
    except _UnknownError as gap:
        return MacCount(None, str(gap))


def node_macs(scope: Scope, node: NodeProto, shapes: Shapes) -> int | None:
    """MACs of one run of a node, its bodies not included.

    Returns:
        0 for operators without any; None where they are unknown.
    """
    try:
        return _node_macs(scope, node, shapes)
    except _UnknownError:
        return None


def _scope_macs(scope: Scope, shapes: Shapes) -> int:
    return sum(
        _node_macs(scope, node, shapes) + _body_macs(scope, node, shapes) for node in scope.nodes
    )


def _body_macs(scope: Scope, node: NodeProto, shapes: Shapes) -> int:
    """MACs of all that the bodies of a node compute in one run of it."""
    bodies = scope.children(node)
    if not bodies:
        return 0
    counts = {name: _scope_macs(body, shapes) for name, body in bodies.items()}
    if is_op(node, "If") or not any(counts.values()):
        return max(counts.values())
    rounds = _rounds(scope, node, shapes)
    if rounds is None:
        raise _UnknownError(node, "how often its body runs is not known before it does")
    return rounds * sum(counts.values())


def _rounds(scope: Scope, node: NodeProto, shapes: Shapes) -> int | None:
    """How often the body of a Loop or Scan runs."""
    body = scope.children(node).get("body")
    if body is None:
        return None
    if is_op(node, "Scan"):
        count = attribute(node, "num_scan_inputs", 0)
        scanned = node.input[len(node.input) - count]
        dims = _dims(scope, scanned, shapes)
        axis = [*attribute(node, "scan_input_axes", []), 0][0]
        return None if dims is None or not -len(dims) <= axis < len(dims) else dims[axis]
    if not is_op(node, "Loop"):
        return None
    most = scope.constant(node.input[0]) if node.input[0] else None
    begins = not node.input[1] or _is_true(scope, node.input[1])
    if most is None or most.values.size != 1 or not begins:
        return None
    goes_on = body.outputs[0]
    while (maker := body.producer(goes_on)) is not None and is_op(maker, "Identity"):
        goes_on = maker.input[0]
    never_stops = goes_on == body.inputs[1] or _is_true(body, goes_on)
    return max(0, int(most.values.item())) if never_stops else None


def _is_true(scope: Scope, name: str) -> bool:
    constant = scope.constant(name)
    return constant is not None and bool(constant.values.all())


def _node_macs(scope: Scope, node: NodeProto, shapes: Shapes) -> int:
    row = find(node)
    if row is None:
        if in_default_domain(node) or (node.domain == _CLASSIC and not _multiplies(node)):
            return 0
        raise _UnknownError(node, f"what operators of {node.domain!r} multiply is not known")
    if row.uncounted:
        raise _UnknownError(node, "no rule counts this operator")
    if is_op(node, "Einsum"):
        return _einsum_macs(scope, node, shapes)
    if row.kind == "attention" or row.name == "QAttention":
        return _attention_macs(scope, node, shapes)
    if row.factors is None:
        return 0
    left, right = (node.input[index] for index in row.factors)
    if "Conv" in row.name:
        over = _sizes(scope, node, left if "Transpose" in row.name else node.output[0], shapes)
        return math.prod(over) * math.prod(_sizes(scope, node, right, shapes)[1:])
    if row.recurrent:
        steps, weight, recurrent = (_sizes(scope, node, x, shapes) for x in node.input[:3])
        return math.prod(steps[:2]) * (math.prod(weight) + math.prod(recurrent))
    return math.prod(_sizes(scope, node, node.output[0], shapes)) * _depth(
        scope, node, left, right, shapes
    )


def _multiplies(node: NodeProto) -> bool:
    return any("coefficients" in item.name for item in node.attribute)


def _einsum_macs(scope: Scope, node: NodeProto, shapes: Shapes) -> int:
    """Every combination of indices costs one; none where nothing is multiplied."""
    equation = str(attribute(node, "equation", "")).replace(" ", "")
    if len(node.input) == 1:
        return 0
    terms = equation.partition("->")[0].split(",")
    if len(terms) != 2 or "." in equation:
        raise _UnknownError(node, "only products of two tensors without an ellipsis are counted")
    lengths: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        for letter, size in zip(term, _sizes(scope, node, name, shapes), strict=False):
            lengths[letter] = max(size, lengths.get(letter, 0))
    return math.prod(lengths.values())


def _attention_macs(scope: Scope, node: NodeProto, shapes: Shapes) -> int:
    """Scores of all queries against all keys, and the sums of the values that they weigh.

    For ``Attention`` of onnxruntime the projections of its input as well. None for operators that
    only turn or bias.
    """
    if "Attention" not in node.op_type:
        return 0
    result = math.prod(_sizes(scope, node, node.output[0], shapes))
    if not in_default_domain(node) and node.op_type != "MultiHeadAttention":
        if len(node.input) > 4 and node.input[4]:
            raise _UnknownError(node, "how long its past is is not known")
        fed = _sizes(scope, node, node.input[0], shapes)
        weight = _sizes(scope, node, node.input[1], shapes)
        return math.prod(fed) * weight[-1] + 2 * result * fed[-2]
    query = _sizes(scope, node, node.input[0], shapes)
    if len(query) > 4 or len(node.input) < 2 or not node.input[1]:
        raise _UnknownError(node, "queries, keys and values come packed")
    keys = _sizes(scope, node, node.input[1], shapes)[-2]
    past = 4 if in_default_domain(node) else 6
    if len(node.input) > past and node.input[past]:
        keys += _sizes(scope, node, node.input[past], shapes)[-2]
    return keys * (math.prod(query) + result)


def _depth(scope: Scope, node: NodeProto, left: str, right: str, shapes: Shapes) -> int:
    """Length of the sums of a matrix product, from either factor."""
    if node.op_type == "MatMulNBits":
        return int(attribute(node, "K", 0))
    a, b = _dims(scope, left, shapes), _dims(scope, right, shapes)
    depth: int | str | None = None
    if a:
        depth = a[-2 if attribute(node, "transA", 0) else -1]
    if b and not isinstance(depth, int):
        depth = b[-1 if attribute(node, "transB", 0) or len(b) == 1 else -2]
    if not isinstance(depth, int):
        raise _unsized(node, left, a)
    return depth


def _dims(scope: Scope, name: str, shapes: Shapes) -> tuple[int | None, ...] | None:
    """Dimensions; None for those that are no number."""
    constant = scope.constant(name)
    if constant is not None:
        return tuple(constant.shape)
    info = shapes.get(name)
    if info is None or info.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in info.shape)


def _sizes(scope: Scope, node: NodeProto, name: str, shapes: Shapes) -> tuple[int, ...]:
    """Dimensions of a tensor of ``node``, all known."""
    dims = _dims(scope, name, shapes)
    known = None if dims is None else tuple(dim for dim in dims if dim is not None)
    if dims is None or known is None or len(known) < len(dims):
        raise _unsized(node, name, dims)
    return known


def _unsized(node: NodeProto, name: str, dims: Sequence[int | None] | None) -> _UnknownError:
    if dims is None:
        return _UnknownError(node, f"the shape of {name!r} is not known")
    shown = ", ".join("?" if dim is None else str(dim) for dim in dims)
    return _UnknownError(node, f"the sizes of {name!r} are not known: [{shown}]")
