"""Gelu in the order of factors in which onnxruntime knows it."""

from __future__ import annotations

from onnx import NodeProto

from graphopt.graph.graph import Scope
from graphopt.graph.node import is_op
from graphopt.rewrite.edit import forget, only_reader

__all__ = ["order_gelu"]


def order_gelu(scope: Scope, erf: NodeProto) -> NodeProto | None:
    """Make ``(x * (1 + erf)) * 0.5`` of ``x * (0.5 * (1 + erf))``, which torch's exporter writes.

    onnxruntime (1.32) fuses the former and ``(x * 0.5) * (1 + erf)``. The factor 0.5 rounds
    nothing, so that the answers are the same bit for bit unless they underflow.

    Args:
        scope: Where the node is.
        erf: A node Erf, behind ``x / sqrt(2)`` or the like.

    Returns:
        The outer product, None where it is not such a Gelu.
    """
    sources = _sources(scope, erf)
    shifted = _only(scope, erf)
    if shifted is None or not is_op(shifted, "Add") or _number(scope, shifted, 1.0) is None:
        return None
    halved = _only(scope, shifted)
    place = None if halved is None or not is_op(halved, "Mul") else _number(scope, halved, 0.5)
    outer = None if halved is None or place is None else _only(scope, halved)
    if halved is None or place is None or outer is None or not is_op(outer, "Mul"):
        return None
    data = [at for at in (0, 1) if outer.input[at] in sources]
    if len(data) != 1 or outer.input[1 - data[0]] != halved.output[0]:
        return None
    half, source = halved.input[place], outer.input[data[0]]
    scope.set_input(halved, place, source)
    scope.set_input(outer, data[0], half)
    forget(scope, [halved.output[0]])  # its shape may have been another one
    scope.set_output(halved, 0, scope.graph.unique_name(halved.output[0]))
    scope.set_input(outer, 1 - data[0], halved.output[0])
    return outer


def _sources(scope: Scope, erf: NodeProto) -> set[str]:
    """What the node in front of Erf reads."""
    before = scope.producer(erf.input[0])
    return set() if before is None or not is_op(before, "Mul", "Div") else set(before.input)


def _only(scope: Scope, node: NodeProto) -> NodeProto | None:
    """The node of the scope that alone reads what another computes."""
    use = only_reader(scope, node.output[0])
    return use.node if use is not None and use.scope is scope else None


def _number(scope: Scope, node: NodeProto, value: float) -> int | None:
    """The input of a node of two operands that is this number."""
    for at in (0, 1):
        constant = scope.constant(node.input[at])
        if constant is None or constant.overridable or constant.shape not in ((), (1,)):
            continue
        if constant.values.reshape(-1)[0] == value:
            return at
    return None
