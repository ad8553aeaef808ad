"""Spans: what lies between layers that make channels and layers that take them, for scaling.

Within a span every channel may be multiplied by a factor of its own where the weights that make
it are divided, and those that take it are multiplied: f(s x) = s f(x) holds for all between, and
no sum mixes channels. A residual sum joins what goes into it: all of it has the same factors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx import NodeProto

from graphopt.facts import operators
from graphopt.facts.axes import Axis, Nest
from graphopt.facts.flats import beyond_bounds
from graphopt.facts.layers import Layer, Need, layer
from graphopt.facts.operators import find
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import attribute, is_op, label

__all__ = ["Added", "Bound", "Span", "channel_spans"]

_NEEDS: tuple[Need, ...] = ("right", "float32", "fixed", "finite", "float32 bias")
_BETWEEN = ("view", "permute", "repeat", "pool")
"""Kinds of operators of one value that only move, copy, average or compare within a channel."""


@dataclass(frozen=True)
class Bound:
    """A Clip in a span whose upper bound is a number.

    Attributes:
        node: The Clip.
        tensor: What it makes.
        axis: Of the channels in it.
        high: Its upper bound, above 0.
    """

    node: NodeProto
    tensor: str
    axis: int
    high: float


@dataclass(frozen=True)
class Added:
    """A constant that a node between adds to the channels of a span.

    Attributes:
        node: The node.
        index: Which of its inputs.
        axis: Of the channels in its result, counted from the end.
    """

    node: NodeProto
    index: int
    axis: int


@dataclass(eq=False)
class Span:
    """Tensors whose channels can be scaled together.

    Attributes:
        tensors: Axis of the channels by name, in the order in which they were met.
        makers: Layers whose output channels they are.
        takers: Layers whose input channels they are.
        bounds: Clips between, whose upper bound holds for every channel alike.
        nodes: Everything between, Clips too.
        added: Constants that are added between.
        reason: Why it cannot be scaled; empty where it can.
    """

    tensors: dict[str, int] = field(default_factory=dict)
    makers: list[Layer] = field(default_factory=list)
    takers: list[Layer] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    nodes: list[NodeProto] = field(default_factory=list)
    added: list[Added] = field(default_factory=list)
    reason: str = ""

    @property
    def channels(self) -> int:
        """How many there are."""
        return self.makers[0].channels

    @property
    def key(self) -> str:
        """What tells it apart in a graph, and in a copy of that."""
        return str(self.makers[0].node.output[0])

    @property
    def name(self) -> str:
        """What reports call it."""
        names = [" + ".join(label(e.node) for e in side[:3]) for side in (self.makers, self.takers)]
        return " -> ".join(names)


def channel_spans(graph: Graph, shapes: Shapes) -> list[Span]:
    """All spans of the main graph, in order of their first makers.

    Args:
        graph: Only read.
        shapes: Of its tensors.
    """
    spans, seen = list[Span](), set[str]()
    for node in graph.main.nodes:
        one = layer(graph.main, node)
        if not isinstance(one, Layer) or not one.multiplies or node.output[0] in seen:
            continue
        rank = _rank(shapes, node.output[0])
        if rank is None or rank < 2:
            continue
        span = _Walk(graph.main, shapes).span(node.output[0], one.result_axis % rank)
        seen.update(span.tensors)
        if span.makers and (span.takers or span.reason):
            spans.append(span)
    return spans


def _rank(shapes: Shapes, name: str) -> int | None:
    info = shapes.get(name)
    return None if info is None or info.shape is None else len(info.shape)


class _Walk:
    """Follows channels from one tensor on, to both sides."""

    def __init__(self, scope: Scope, shapes: Shapes) -> None:
        self.scope, self.shapes = scope, shapes
        self.found = Span()
        self.waiting: list[str] = []
        self.passed: set[int] = set()

    def span(self, tensor: str, axis: int) -> Span:
        """What is scaled together with a tensor."""
        self._reach(tensor, axis)
        while self.waiting and not self.found.reason:
            name = self.waiting.pop()
            axis = self.found.tensors[name]
            self._made(name, axis)
            for use in self.scope.uses(name):
                if use.scope is not self.scope or use.index < 0:
                    self._stop(use.node, "a body reads it")
                else:
                    self._read(use.node, use.index, axis)
        for node in self.found.nodes:
            if is_op(node, "Mul", "Div") and all(n in self.found.tensors for n in node.input):
                self._stop(node, "it multiplies channels with each other")
        return self.found

    def _reach(self, tensor: str, axis: int) -> None:
        if tensor not in self.found.tensors:
            self.found.tensors[tensor] = axis
            self.waiting.append(tensor)
        elif self.found.tensors[tensor] != axis:
            self.found.reason = f"{tensor!r} is read along two axes"

    def _stop(self, node: NodeProto, reason: str) -> None:
        self.found.reason = self.found.reason or f"{label(node)}: {reason}"

    def _made(self, name: str, axis: int) -> None:
        """Look at what makes a tensor, and at whether others see it."""
        node = self.scope.producer(name)
        if self.scope.is_output(name):
            self.found.reason = self.found.reason or f"{name!r} is an output of the model"
        if node is None:
            self.found.reason = self.found.reason or f"{name!r} is an input or a constant"
            return
        if id(node) in self.passed:
            return
        one = layer(self.scope, node)
        if isinstance(one, Layer) and one.multiplies:
            rank = _rank(self.shapes, name)
            if rank is None or one.result_axis % rank != axis:
                self._stop(node, "it makes other channels")
            elif refusal := one.refusal(*_NEEDS):
                self._stop(node, refusal.reason)
            elif not one.owned_by([node]):
                self._stop(node, "others read its weight")
            else:
                self.found.makers.append(one)
            return
        indices = [i for i in self._data(node) if self._axis(node, i, axis, back=True) is not None]
        if not indices:
            self._stop(node, f"{node.op_type} makes it")
            return
        self._between(node, indices, 0 if is_op(node, "Mul", "Div") else None, axis)

    def _read(self, node: NodeProto, index: int, axis: int) -> None:
        """Look at who reads a tensor."""
        if operators.is_kind(node, "measure") or id(node) in self.passed:
            return
        one = layer(self.scope, node)
        if isinstance(one, Layer) and one.multiplies and index == one.data_index:
            rank = _rank(self.shapes, node.input[index])
            takes = rank is not None and (rank - 1 if one.kind == "linear" else 1) == axis
            if not takes:
                self._stop(node, "it takes other channels")
            elif refusal := one.refusal(*_NEEDS):
                self._stop(node, refusal.reason)
            elif not one.owned_by([node]):
                self._stop(node, "others read its weight")
            else:
                self.found.takers.append(one)
            return
        made = self._axis(node, index, axis)
        if made is None:
            self._stop(node, f"{node.op_type} is no function that a factor goes through")
            return
        self._between(node, self._data(node), index, made)

    def _data(self, node: NodeProto) -> list[int]:
        """Inputs that are scaled with the result, constants among them."""
        row = find(node)
        if row is None:
            return []
        if row.adds or is_op(node, "Mul", "Sub"):
            return list(range(len(node.input)))
        between = row.homogeneous or row.averages or row.kind in _BETWEEN
        return (
            [0]
            if between or is_op(node, "Clip", "Div", "Dropout") or _pads(self.scope, node)
            else []
        )

    def _axis(self, node: NodeProto, index: int, axis: int, *, back: bool = False) -> int | None:
        """Axis of the result along which the channels of an input run, or the other way round."""
        if index not in self._data(node) or (any(node.output[1:]) and not is_op(node, "MaxPool")):
            return None
        nest = operators.nest(self.scope, node, self.shapes)
        source, target = nest.inputs[index], nest.outputs[0]
        if source is None or target is None:
            return None
        if back:
            source, target = target, source
        loop = _loop(nest, source[axis]) if axis < len(source) else None
        places = [place for place, each in enumerate(target) if loop and _loop(nest, each) == loop]
        return places[0] if len(places) == 1 else None

    def _between(self, node: NodeProto, indices: list[int], index: int | None, axis: int) -> None:
        """Take in a node that hands factors on: from one of its inputs, or from all."""
        self.passed.add(id(node))
        self.found.nodes.append(node)
        if is_op(node, "Clip"):
            low, high = beyond_bounds(self.scope, node)
            if (low != 0 and low != -float("inf")) or high <= 0:
                self._stop(node, f"it clips at {low:g} and {high:g}")
            elif high != float("inf"):
                self.found.bounds.append(Bound(node, node.output[0], axis, high))
        self._reach(node.output[0], axis)
        if is_op(node, "Mul", "Div"):
            indices = [index or 0]
        for each in indices:
            if self.scope.constant(node.input[each]) is not None:
                self._add(node, each, axis)
                continue
            source = self._axis(node, each, axis, back=True)
            if source is None:
                self._stop(node, "what it adds has no such channels")
            else:
                self._reach(node.input[each], source)

    def _add(self, node: NodeProto, index: int, axis: int) -> None:
        """Take in a constant that is added to every channel."""
        constant = self.scope.constant(node.input[index])
        assert constant is not None
        values = constant.values
        if constant.overridable:
            self._stop(node, "what it adds is listed as an input; put freeze-initializers before")
        elif (rank := _rank(self.shapes, node.output[0])) is None:
            self._stop(node, "the rank of its result is not known")
        elif values.any():
            self.found.added.append(Added(node, index, axis - rank))


def _loop(nest: Nest, axis: Axis) -> str | None:
    """The one loop that an axis runs through, all of it; None where there is no such loop."""
    if len(axis) != 1 or axis[0].picks is not None:
        return None
    loops = [loop for loop in axis[0].loops if nest.sizes[loop] != 1]
    return loops[0] if len(loops) == 1 else None


def _pads(scope: Scope, node: NodeProto) -> bool:
    """Whether a node pads with zeros, or with what stands at the edge."""
    if not is_op(node, "Pad"):
        return False
    if attribute(node, "mode", "constant") != "constant":
        return True
    if len(node.input) < 3 or not node.input[2]:
        return not attribute(node, "value", 0.0)
    value = scope.constant(node.input[2])
    return value is not None and not value.values.any()
