"""Which layers run on integer kernels, which in float and why: read back, or by a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import NodeProto

from graphopt import targets
from graphopt.analysis.float_reasons import float_reason, layer_at
from graphopt.analysis.table_reasons import open_sizes, table_reason
from graphopt.facts.layers import Layer
from graphopt.facts.operators import find
from graphopt.facts.quantized import (
    between_quantizers,
    integer_op,
    moves_data,
)
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op, label
from graphopt.runtime.optimized import RunningGraph

__all__ = ["Audit", "Entry", "audit", "expected"]


@dataclass(frozen=True)
class Entry:
    """How one layer runs.

    Attributes:
        node: Label of the node in the given graph.
        op_type: Its operator there.
        kernel: The operator that does its work in the graph that onnxruntime runs; where only a
            table speaks, that of the given graph.
        reason: Why it is in float, or what is odd about an integer kernel; empty otherwise.
    """

    node: str
    op_type: str
    kernel: str
    reason: str = ""


@dataclass(frozen=True)
class Audit:
    """The layers of a graph by the arithmetic they run in.

    ``table`` is the target whose table says so; empty where onnxruntime's own graph was read.
    ``unfixed`` are sizes that must be fixed before that target takes any of them.
    """

    integer: list[Entry] = field(default_factory=list)
    float_: list[Entry] = field(default_factory=list)
    table: str = ""
    unfixed: list[str] = field(default_factory=list)


def audit(
    graph: Graph,
    reasons: Mapping[str, str] | None = None,
    *,
    threads: int = 0,
    target: targets.Target | None = None,
) -> Audit:
    """Read back what onnxruntime runs and say for each layer whether it is on integers.

    Layers are Conv, ConvTranspose, Gemm, MatMul and Einsum with a constant weight, operators
    between DequantizeLinear and QuantizeLinear that compute something, and operators that are
    integer by definition. A layer that onnxruntime removes (folded, never read) is in neither list.

    Args:
        graph: The model; not modified.
        reasons: Why a node was left in float, by its label; goes before what can be derived.
        threads: Threads of the session.
        target: Whose rules say why a layer is in float; by default this machine's, as it is here
            that onnxruntime is asked.

    Raises:
        ModelError: onnxruntime cannot load the model, or cannot save what it made of it.
    """
    running = RunningGraph(graph, threads)
    rules = targets.find("host") if target is None else target
    found = Audit()
    for scope in graph.scopes():
        for node in scope.nodes:
            layer = layer_at(scope, node)
            looked_at = layer is not None or _computes(scope, node)
            kernel = running.kernel(scope, node) if looked_at else None
            if kernel is None:
                continue
            name, op_type = label(node), str(node.op_type)
            if running.on_integers(kernel):
                reason = _oddity(node, layer, kernel)
                found.integer.append(Entry(name, op_type, str(kernel.op_type), reason))
                continue
            reason = (reasons or {}).get(name) or float_reason(scope, node, rules)
            if running.dequantizes_weight(kernel):
                reason += _defect(layer)
            found.float_.append(Entry(name, op_type, str(kernel.op_type), reason))
    return found


def expected(
    graph: Graph, reasons: Mapping[str, str] | None = None, *, target: targets.Target
) -> Audit:
    """What a target's table says of each layer; see ``audit``, nothing is run.

    Args:
        graph: The model.
        reasons: Why a node was left in float, by its label.
        target: Another machine than this one.
    """
    found = Audit(table=target.name, unfixed=open_sizes(graph, target))
    for scope in graph.scopes():
        for node in scope.nodes:
            if layer_at(scope, node) is None and not _computes(scope, node):
                continue
            name, op_type = label(node), str(node.op_type)
            reason = table_reason(scope, node, target)
            if reason:
                reason = (reasons or {}).get(name, reason)
                found.float_.append(Entry(name, op_type, op_type, reason))
            else:
                found.integer.append(Entry(name, op_type, op_type))
    return found


def _computes(scope: Scope, node: NodeProto) -> bool:
    """Whether another operator is on integers, or was meant to be; to look rows up is neither."""
    row = find(node)
    if row is not None and row.looks_up:
        return False
    return integer_op(node) or (between_quantizers(scope, node) and not moves_data(node))


def _oddity(node: NodeProto, layer: Layer | None, kernel: NodeProto) -> str:
    """What is to be known about a layer that runs on integers."""
    if is_op(node, "Conv", "Gemm") and layer is not None and layer.weight.form == "float":
        return (
            "its weight is float in the file, but onnxruntime quantizes it when it loads the model"
            " (int8, one scale for all channels), as the tensors around are quantized"
        )
    if kernel.op_type == "MatMulNBits" and not integer_op(node):
        return "onnxruntime quantizes its input to int8 in blocks at every run"
    return ""


def _defect(layer: Layer | None) -> str:
    """What a float layer suffers whose kernel reads a dequantized weight."""
    if layer is not None and layer.weight.form == "float":
        return "; onnxruntime rounds its float weight to int8 all the same and gains nothing"
    what = "constant" if layer is None else "weight"
    return f"; its {what} is dequantized at every run, which costs time"
