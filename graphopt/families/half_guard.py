"""What floats of 16 bits would do to each node and to the answers, measured on samples."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto
from onnx.helper import make_node

from graphopt.contract.passes import Context, MinMax, Values
from graphopt.facts.half_nodes import HalfNode
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph
from graphopt.graph.node import is_op, label
from graphopt.graph.order import sorted_nodes
from graphopt.numerics.halves import HalfFormat

__all__ = ["answers_db", "beyond_range", "inexact"]

_SAMPLES = 16
_FARTHEST = 8
"""Nodes in front of one that rounding would ruin that may have to stay with it, in a row."""
_FLOAT = TensorProto.FLOAT
_NUMBERS = (_FLOAT, TensorProto.BOOL, TensorProto.INT32, TensorProto.INT64, TensorProto.DOUBLE)
_BOUND = np.float32(1e18)  # whose square float32 holds


def beyond_range(
    graph: Graph, nodes: Iterable[HalfNode], context: Context, form: HalfFormat, margin: float
) -> dict[int, str]:
    """Why nodes stay in float32, by their identity: a tensor of theirs is out of range.

    Args:
        graph: The graph as it is.
        nodes: Nodes of its main graph.
        context: Has the samples, all of which count.
        form: What tensors would become.
        margin: How much larger than on the samples a value may get.
    """
    main = [each for each in nodes if each.scope.parent is None]
    names = dict.fromkeys(name for each in main for name in _computed(each))
    answers = context.observe([MinMax(name) for name in names], graph.copy())
    faults: dict[str, str] = {}
    for name in names:
        if answers.failure(MinMax(name)) is not None:
            faults[name] = f"{name!r} is not finite on the samples"
            continue
        low, high = answers[MinMax(name)]
        peak = max(-low, high)
        if peak * margin > form.largest:
            faults[name] = f"{name!r} reaches {peak:.3g}; {form.name} ends at {form.largest:.6g}"
    return {
        id(each.node): faults[name] for each in main for name in _computed(each) if name in faults
    }


def _computed(each: HalfNode) -> list[str]:
    return [name for name in each.tensors if name and each.scope.constant(name) is None]


def inexact(
    graph: Graph,
    nodes: Sequence[HalfNode],
    context: Context,
    form: HalfFormat,
    least_db: float,
) -> dict[int, str]:
    """Why nodes stay in float32, by their identity: rounding costs them more than it should.

    Each node is computed a second time from its rounded inputs, constants too, and what comes out
    is rounded. That shows values lost below the smallest ones, sums that cancel, large angles,
    denominators that become 0, and decisions that turn. What such a node reads is computed in
    float32 as well, from the layers or inputs on, as far as that takes. A Cast to integers has to
    give the same ones.

    A layer is the last to stay, where nothing behind it helps; what it reads itself is not.

    Args:
        graph: The graph as it is.
        nodes: Nodes of its main graph.
        context: Has the samples, some of which are looked at.
        form: What tensors would become.
        least_db: Least SQNR of what a node makes.
    """
    main = {id(each.node): each for each in nodes if each.scope.parent is None}
    makers = {each.node.output[index]: each for each in main.values() for index in each.makes}
    casts = [
        HalfNode(graph.main, node, (0,), (), layer=False)
        for node in graph.main.nodes
        if is_op(node, "Cast") and node.input[0] in makers
    ]
    faults = dict[int, str]()
    looked_at = [*main.values(), *casts]
    for _ in range(_FARTHEST):
        twin = _Twin(graph, context.shapes, form, makers, faults)
        outputs = [(name, each) for each in looked_at for name in twin.again(each)]
        errors, looked_at = twin.errors_db(context), []
        for name, each in outputs:
            value = errors.get(name, math.inf)
            if value >= (least_db if id(each.node) in main else math.inf):
                continue
            why = f"rounding to {form.name} would leave {value:.0f} dB"
            marked = _mark(each, why, main, makers, faults)
            looked_at += [each] if marked else []
        if not looked_at:
            break
    return faults


def _mark(
    each: HalfNode,
    why: str,
    main: Mapping[int, HalfNode],
    makers: Mapping[str, HalfNode],
    faults: dict[int, str],
) -> bool:
    """Keep a node in float32 or, where it is, what it reads; whether there was something to do."""
    if id(each.node) in main and id(each.node) not in faults:
        faults[id(each.node)] = why
        return True
    ends, seen, waiting = list[HalfNode](), set[int](), [each]
    while waiting:
        at = waiting.pop()
        if id(at.node) in seen:
            continue
        seen.add(id(at.node))
        around = [makers[name] for name in at.node.input if name in makers]
        waiting += [maker for maker in around if id(maker.node) in faults and not maker.layer]
        ends += [maker for maker in around if id(maker.node) not in faults]
    for maker in [maker for maker in ends if not maker.layer] or ends:
        faults[id(maker.node)] = f"{why} in {label(each.node)!r}, which comes of it"
    return bool(ends)


def answers_db(
    graph: Graph, nodes: Sequence[HalfNode], context: Context, form: HalfFormat
) -> dict[str, float]:
    """SQNR of each output of floats where every tensor of these nodes is rounded, dB.

    Other than onnxruntime's CPU kernels, which compute in float32 what they have no halves for,
    and round where two of them do not meet.
    """
    twin = _Twin(graph, context.shapes, form, {}, {})
    halves = {id(each.node): each for each in nodes if each.scope.parent is None}
    for node in sorted_nodes(graph.main):
        if not is_op(node, "Constant"):
            twin.follow(node, halves.get(id(node)))
    for name in graph.main.outputs:
        twin.compare(name)
    return twin.errors_db(context)


class _Twin:
    """A copy of a graph in which nodes are computed a second time from what is rounded.

    Args:
        graph: Stays as it is.
        shapes: Types of its tensors.
        form: What is rounded to.
        makers: Nodes by what they make.
        floats: Those of them that stay in float32, by their identity.
    """

    def __init__(
        self,
        graph: Graph,
        shapes: Shapes,
        form: HalfFormat,
        makers: Mapping[str, HalfNode],
        floats: Container[int],
    ) -> None:
        self.graph, self.shapes, self.form = graph.copy(), shapes, form
        self.kind = TensorProto.DataType.Value(form.name.upper())
        self.makers, self.floats = makers, floats
        self.names: dict[str, str] = {}
        self.rounded: dict[str, str] = {}
        self.seconds: dict[int, list[tuple[str, str]]] = {}
        self.scalars: dict[str, tuple[str, str]] = {}

    def again(self, each: HalfNode) -> list[str]:
        """Compute a node from its rounded inputs; gives the outputs that are compared."""
        found = list[str]()
        for index, (name, other) in enumerate(self._again(each)):
            info = self.shapes.get(name) if name else None
            if info is not None and info.data_type in _NUMBERS and name not in self.scalars:
                rounded = index in each.makes and not self._is_float(each)
                self.names[name] = self._round(other) if rounded else other
                self.compare(name)
                found.append(name)
        return found

    def _again(self, each: HalfNode) -> list[tuple[str, str]]:
        """Outputs of a node, each with its name where it is computed once more."""
        key = id(each.node)
        if key not in self.seconds:
            inputs = list(each.node.input)
            for index in each.reads:
                inputs[index] = self._read(inputs[index], exact=self._is_float(each))
            second = self._second(each.node, inputs)
            self.seconds[key] = list(zip(each.node.output, second, strict=True))
        return self.seconds[key]

    def _is_float(self, each: HalfNode) -> bool:
        return id(each.node) in self.floats or each.node.output[0] not in self.makers

    def _read(self, name: str, *, exact: bool) -> str:
        """What is read of a tensor: rounded where its maker or its reader computes in halves."""
        maker = self.makers.get(name)
        if maker is not None and self._is_float(maker):
            name, maker = dict(self._again(maker))[name], None
        return name if exact and maker is None else self._round(name)

    def follow(self, node: NodeProto, half: HalfNode | None) -> None:
        """Compute a node from what the ones before it gave, rounded where it is to be."""
        inputs = [self.names.get(name, name) for name in node.input]
        for index in half.reads if half is not None else ():
            inputs[index] = self._round(inputs[index])
        if inputs == list(node.input):
            return
        for index, (name, other) in enumerate(
            zip(node.output, self._second(node, inputs), strict=True)
        ):
            if name:
                made = half is not None and index in half.makes
                self.names[name] = self._round(other) if made else other

    def _second(self, node: NodeProto, inputs: Sequence[str]) -> list[str]:
        other = NodeProto()
        other.CopyFrom(node)
        other.name = ""
        del other.input[:]
        other.input.extend(inputs)
        names = [self.graph.unique_name(f"{n}_again") if n else "" for n in node.output]
        del other.output[:]
        other.output.extend(names)
        self.graph.main.add(other)
        return names

    def _round(self, name: str) -> str:
        if name not in self.rounded:
            half = self._node("Cast", [name], to=self.kind)
            self.rounded[name] = self._node("Cast", [half], to=_FLOAT)
        return self.rounded[name]

    def _node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        output = self.graph.unique_name(f"{inputs[0]}_{operator}")
        self.graph.main.add(make_node(operator, inputs, [output], **attributes))
        return output

    def compare(self, name: str) -> None:
        """Ask for the energy of a tensor and that of its error, as two numbers."""
        other, info = self.names.get(name), self.shapes.get(name)
        if other is None or info is None or info.data_type not in _NUMBERS:
            return
        ends = [self.graph.main.add_constant("bound", np.array(v)) for v in (-_BOUND, _BOUND)]
        first = self._node("Clip", [self._node("Cast", [name], to=_FLOAT), *ends])
        floats = self._node("Cast", [other], to=_FLOAT)
        unknown = self._node("IsNaN", [floats])
        second = self._node("Where", [unknown, ends[1], self._node("Clip", [floats, *ends])])
        difference = self._node("Sub", [second, first])
        self.scalars[name] = (
            self._node("ReduceMean", [self._node("Mul", [first, first])], keepdims=0),
            self._node("ReduceMean", [self._node("Mul", [difference] * 2)], keepdims=0),
        )

    def errors_db(self, context: Context) -> dict[str, float]:
        """SQNR of each tensor that was compared and is finite: infinite where it is exact."""
        requests = {
            name: (Values(signal), Values(noise)) for name, (signal, noise) in self.scalars.items()
        }
        asked = [request for pair in requests.values() for request in pair]
        answers = context.observe(asked, self.graph, _SAMPLES)
        return {
            name: _decibels(*(float(np.sum(answers[each])) for each in pair))
            for name, pair in requests.items()
            if not any(map(answers.failure, pair))
        }


def _decibels(signal: float, noise: float) -> float:
    if noise <= 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
