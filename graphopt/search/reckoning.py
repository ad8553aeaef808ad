"""How long a form takes on a target that is not this machine, reckoned from the target's table.

Times of this machine say little of another one: it has other kernels, for floats too. What is
multiplied counts, on integers by the table's ratio, and each element that goes from floats to
integers or back; everything else is left out. Coarse, but the same in every run.
"""

from __future__ import annotations

import math

from onnx import NodeProto

from graphopt.analysis.audit import expected
from graphopt.facts.macs import node_macs
from graphopt.facts.quantized import integer_op, moves_data
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Scope
from graphopt.graph.node import is_op, label
from graphopt.run.stage import Stage
from graphopt.runtime.latency import Ratio
from graphopt.targets import Target

__all__ = ["reckoned"]

_ROUGH = 0.05
"""What differs by less is the same: the reckoning is no closer than that."""


def reckoned(stage: Stage, base: Stage, target: Target) -> Ratio:
    """The time of a form over that of another one; 1 where something cannot be counted.

    Args:
        stage: The form.
        base: What it is set against.
        target: Whose table says what runs on integers there, and how fast.
    """
    first, second = _work(stage, target), _work(base, target)
    known = first is not None and second is not None and second > 0
    ratio = first / second if known and first is not None and second is not None else 1.0
    return Ratio(ratio, _ROUGH if known else 0.0, "table")


def _work(stage: Stage, target: Target) -> float | None:
    """What a run takes, in multiplications of floats; None where it cannot be counted."""
    shapes = stage.sizes.shapes
    integer = {entry.node for entry in expected(stage.graph, target=target).integer}
    total = 0.0
    for scope in stage.graph.scopes():
        for node in scope.nodes:
            macs = node_macs(scope, node, shapes)
            if macs is None:
                return None
            total += macs * (target.integer_time if label(node) in integer else 1.0)
            crossed = _crossed(scope, node, shapes, integer)
            total += target.crossing * crossed + (target.overhead if crossed else 0)
    return total


def _crossed(scope: Scope, node: NodeProto, shapes: Shapes, integer: set[str]) -> int:
    """Elements that a node takes from floats to integers or back, where no kernel does it."""
    if is_op(node, "QuantizeLinear"):
        maker = _computing(scope, node.input[0])
        return 0 if maker is not None and label(maker) in integer else _size(shapes, node.input[0])
    if is_op(node, "DynamicQuantizeLinear"):
        return _size(shapes, node.input[0])
    if is_op(node, "DequantizeLinear") and scope.constant(node.input[0]) is None:
        readers = [use.node for use in scope.uses(node.output[0])]
        inside = all(label(each) in integer or moves_data(each) for each in readers)
        return 0 if readers and inside else _size(shapes, node.output[0])
    maker = scope.producer(node.input[0]) if is_op(node, "Cast") else None
    if maker is not None and integer_op(maker):
        return _size(shapes, node.output[0])
    return 0


def _computing(scope: Scope, name: str) -> NodeProto | None:
    """The node that computes a tensor, behind activations that a kernel swallows."""
    maker = scope.producer(name)
    while maker is not None and is_op(maker, "Relu", "Clip"):
        maker = scope.producer(maker.input[0])
    return maker


def _size(shapes: Shapes, name: str) -> int:
    shape = shapes.static_shape(name)
    return 0 if shape is None else math.prod(shape)
