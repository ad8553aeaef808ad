"""Why a target whose kernels cannot be asked here leaves a layer in float, by its table."""

from __future__ import annotations

from onnx import NodeProto

from graphopt.analysis.float_reasons import layer_at, obstacle
from graphopt.facts.quantized import dequantizer, integer_op, quantizers, ranges_of_each_call
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op
from graphopt.targets import Target

__all__ = ["open_sizes", "table_reason"]


def table_reason(scope: Scope, node: NodeProto, target: Target) -> str:
    """Why a layer is not computed on integers there; empty where the table says that it is.

    Args:
        scope: Where the node is.
        node: A layer, or an operator that is quantized.
        target: Whose table is asked.
    """
    if integer_op(node):
        return _own_operator(node, target)
    if is_op(node, node.op_type) and node.op_type not in (*target.rules, *target.dynamic):
        return f"target {target.name} has no integer kernel for {node.op_type}"
    return (
        obstacle(scope, node, target)
        or _zero_point(scope, node, target)
        or _scales(scope, node, target)
        or _bias(scope, node, target)
    )


def _own_operator(node: NodeProto, target: Target) -> str:
    """What keeps an operator that is integer by its definition."""
    if node.domain == "com.microsoft" and not target.contrib:
        return f"{target.runtime} has no com.microsoft operators on target {target.name}"
    if ranges_of_each_call(node) and not target.calls:
        return f"target {target.name} computes what takes its ranges from each call in floats"
    return ""


def _zero_point(scope: Scope, node: NodeProto, target: Target) -> str:
    """An activation whose code of zero is not 0, where that must be so."""
    if not target.symmetric:
        return ""
    around = [made for name in node.input if (made := dequantizer(scope, name)) is not None]
    for each in around + quantizers(scope, node.output[0]):
        zero = scope.constant(each.input[2]) if len(each.input) > 2 and each.input[2] else None
        if zero is not None and zero.values.any():
            return f"a zero point around it is not 0, as {target.runtime} wants it"
    return ""


def _scales(scope: Scope, node: NodeProto, target: Target) -> str:
    """A weight with a scale for each channel, where it may have one alone."""
    found = layer_at(scope, node)
    rule = target.rules.get(node.op_type)
    if found is None or rule is None or (target.per_channel and rule.per_channel):
        return ""
    scale = found.weight.scale
    many = scale is not None and scale.shape not in ((), (1,))
    return f"its weight has more than one scale; a {node.op_type} takes one there" if many else ""


def _bias(scope: Scope, node: NodeProto, target: Target) -> str:
    """A bias as codes, where it must be floats."""
    if target.bias != "float" or not is_op(node, "Conv", "Gemm") or len(node.input) < 3:
        return ""
    coded = dequantizer(scope, node.input[2]) is not None
    return f"its bias is int32; {target.runtime} takes floats" if coded else ""


def open_sizes(graph: Graph, target: Target) -> list[str]:
    """Sizes of the inputs that are left open and must be fixed before any layer is taken there.

    Args:
        graph: The model.
        target: Whose table says which sizes it wants fixed.

    Returns:
        Their names, each once; ``?`` for those without one.
    """
    if target.sizes == "any":
        return []
    shapes, scope = infer(graph), graph.main
    infos = [info for name in scope.inputs if (info := shapes.get(name)) is not None]
    skipped = 1 if target.sizes == "but the batch" else 0
    return list(
        dict.fromkeys(
            "?" if size is None else size
            for info in infos
            for size in (info.shape or ())[skipped:]
            if not isinstance(size, int)
        )
    )
