"""From a graph to steps: names become slots, and what is known beforehand is computed at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from onnx import NodeProto
from torch import Tensor

from graphopt.bridge.lookup import attributes, operator_of
from graphopt.bridge.ops.table import TorchOperator, TrainingSettings
from graphopt.bridge.plan import Plan, Substitute
from graphopt.bridge.program import NOTHING, Body, Known, Step
from graphopt.bridge.tensors import to_tensor
from graphopt.errors import ModelError
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op, label
from graphopt.graph.order import sorted_nodes
from graphopt.graph.sparse_tensors import dense_values
from graphopt.graph.tensors import Array

__all__ = ["PlanRequest", "make_plan"]


@dataclass(frozen=True)
class PlanRequest:
    """What is asked of a plan.

    Attributes:
        graph: A model without local functions.
        nodes: The nodes of its main graph to plan, in order.
        settings: What steps look at that act differently while training.
        weights: Constants (see ``names.constants``) that are trained.
        statistics: Constants that BatchNormalization moves.
        substitutes: What stands for tensors of the main graph.
        frozen: Tensors of the main graph that are handed in, as inputs are.
    """

    graph: Graph
    nodes: list[NodeProto]
    settings: TrainingSettings
    weights: frozenset[str]
    statistics: frozenset[str]
    substitutes: Mapping[str, Substitute]
    frozen: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Value:
    """A tensor while planning.

    Attributes:
        slot: Where it lies; constants and what follows from shapes lie there on the CPU.
        value: When its elements are known.
        shape: When its shape is known.
    """

    slot: int
    value: Known = Known.BY_DATA
    shape: Known = Known.BY_DATA


def make_plan(request: PlanRequest) -> Plan:
    """Plan a model.

    Raises:
        ModelError: A node cannot be computed in torch; the message names it.
    """
    graph, made = request.graph, Plan()
    planner = _Planner(request, made, graph.main, made.steps)
    for declared in graph.required_inputs:
        made.inputs[declared.name] = made.slot()
        planner.known[declared.name] = _Value(made.inputs[declared.name], shape=Known.BY_SHAPES)
    for name in request.frozen:
        made.frozen[name] = made.slot()
        planner.known[name] = _Value(made.frozen[name])
    for node in request.nodes:
        planner.node(node)
    for name in graph.main.outputs:
        planner.value(name)
    made.tensors = {name: value.slot for name, value in planner.known.items()}
    return made


@dataclass
class _Planner:
    """Plans one scope; bodies have planners of their own, which look names up in the outer one."""

    request: PlanRequest
    plan: Plan
    scope: Scope
    steps: list[Step]
    outer: _Planner | None = None
    prefix: str = ""
    is_body: bool = False
    known: dict[str, _Value] = field(default_factory=dict)

    # values

    def value(self, name: str) -> _Value:
        """The value of a name, looked up here and then in the scopes around."""
        if not name:
            return _Value(NOTHING, Known.CONSTANT, Known.CONSTANT)
        if name in self.known:
            return self.known[name]
        if name in self.scope.initializers:
            return self.enter(name, self.request.graph.read(self.scope.initializers[name]))
        sparse = self.scope.sparse(name)
        if sparse is not None:
            return self.enter(name, dense_values(self.request.graph, sparse))
        if self.outer is None:
            raise ModelError(f"tensor {name!r} is read but nothing computes it")
        return self.outer.value(name)

    def enter(self, name: str, values: Array) -> _Value:
        """A constant of this scope: a weight, a statistic, or simply known."""
        if not self.outer and name in self.request.substitutes:
            return self.substitute(name)
        full = self.prefix + name
        elements = to_tensor(values)
        for kind, entered in (
            (self.request.weights, self.plan.weights),
            (self.request.statistics, self.plan.statistics),
        ):
            if full in kind:
                slot = self.plan.slot()
                entered[full] = (slot, elements)
                self.known[name] = _Value(slot, shape=Known.CONSTANT)
                return self.known[name]
        return self.keep(name, elements)

    def keep(self, name: str, elements: Tensor) -> _Value:
        """A tensor that is known now."""
        slot = self.plan.slot()
        self.plan.constants[slot] = elements
        self.known[name] = _Value(slot, Known.CONSTANT, Known.CONSTANT)
        return self.known[name]

    def on_device(self, value: _Value) -> int:
        """The slot of a value on the device of the data."""
        if value.value is Known.BY_DATA or value.slot == NOTHING:
            return value.slot
        if value.slot not in self.plan.moved:
            self.plan.moved[value.slot] = self.plan.slot()
        return self.plan.moved[value.slot]

    def substitute(self, name: str) -> _Value:
        """Let a substitute yield ``name``."""
        found = self.request.substitutes[name]
        self.plan.modules.append(found.module)
        inputs = tuple(self.on_device(self.value(read)) for read in found.inputs)
        value = _Value(self.plan.slot(), shape=Known.BY_DATA)
        self.known[name] = value
        self.steps.append(
            Step(f"in place of {name!r}", found.module, inputs, (value.slot,), Known.BY_DATA)
        )
        return value

    # nodes

    def node(self, node: NodeProto) -> None:
        """Plan one node: compute it now, take over its branch, or make it a step."""
        if self.outer is None and self.replaced(node):
            return
        if is_op(node, "Constant"):
            self.constant(node)
            return
        if is_op(node, "If") and self.value(node.input[0]).value is Known.CONSTANT:
            self.branch(node)
            return
        entry, version = operator_of(self.request.graph, node)
        inputs = [self.value(name) for name in node.input]
        bodies = {name: self.body(body) for name, body in self.scope.children(node).items()}
        function = self.function(entry, version, node)
        value, shape = self.when(entry, inputs, bool(bodies))
        if value is Known.CONSTANT:
            self.now(node, function, inputs)
            return
        outputs = []
        for name in node.output:
            made = _Value(self.plan.slot() if name else NOTHING, value, shape)
            outputs.append(made.slot)
            if name:
                self.known[name] = made
        slots = tuple(
            each.slot if value is Known.BY_SHAPES or index in entry.host else self.on_device(each)
            for index, each in enumerate(inputs)
        )
        if entry.reads_shapes and value is Known.BY_DATA:
            function = partial(_beside, function)
        self.steps.append(Step(label(node), function, slots, tuple(outputs), value, bodies))

    def replaced(self, node: NodeProto) -> bool:
        """Whether something else yields the output of a node of the main graph."""
        if any(name in self.request.frozen for name in node.output):
            return True
        if not any(name in self.request.substitutes for name in node.output):
            return False
        if len(node.output) > 1:
            raise ModelError(f"node {label(node)} has several outputs; none can be replaced")
        self.substitute(node.output[0])
        return True

    def when(self, entry: TorchOperator, inputs: list[_Value], bodies: bool) -> tuple[Known, Known]:
        """When the elements and the shape of a node's outputs are known."""
        value = max([Known.CONSTANT, *(each.value for each in inputs)])
        shape = max([Known.CONSTANT, *(each.shape for each in inputs)])
        if entry.reads_shapes:
            value = shape
        shape = max([shape, *(inputs[i].value for i in entry.host if i < len(inputs))])
        if bodies or (entry.by_data and value is not Known.CONSTANT):
            shape = Known.BY_DATA
        if entry.random or bodies or (self.is_body and value is Known.BY_SHAPES):
            value = Known.BY_DATA
        return value, shape

    def function(self, entry: TorchOperator, version: int, node: NodeProto) -> Any:
        """The function of a node with everything but its inputs and bodies bound."""
        given = attributes(entry, node)
        count = max((i + 1 for i, name in enumerate(node.output) if name), default=0)
        constants = [self.scope.constant(name) if name else None for name in node.input]
        provided = {
            "settings": self.request.settings,
            "outputs": count,
            "version": version,
            "input_types": tuple(0 if each is None else each.data_type for each in constants),
        }
        given |= {name: provided[name] for name in entry.wants}
        return partial(entry.function, **given) if given else entry.function

    def now(self, node: NodeProto, function: Any, inputs: list[_Value]) -> None:
        """Compute a node whose inputs are all known."""
        slots = tuple(range(1, len(inputs) + 1))
        outputs = tuple(range(len(slots) + 1, len(slots) + 1 + len(node.output)))
        values: list[Any] = [None] * (1 + len(slots) + len(outputs))
        values[1 : 1 + len(slots)] = [self.plan.constants.get(each.slot) for each in inputs]
        with torch.no_grad():
            Step(label(node), function, slots, outputs, Known.CONSTANT).run(values)
        for name, slot in zip(node.output, outputs, strict=True):
            if name:
                self.keep(name, values[slot])

    def constant(self, node: NodeProto) -> None:
        """Enter the value of a Constant node."""
        constant = self.scope.constant(node.output[0])
        if constant is not None:
            self.enter(node.output[0], constant.values)
            return
        raise ModelError(f"node {label(node)}: a constant of text cannot be computed in torch")

    # bodies

    def branch(self, node: NodeProto) -> None:
        """Take over the branch that a constant condition chooses."""
        condition = self.plan.constants[self.value(node.input[0]).slot]
        attribute = "then_branch" if bool(condition) else "else_branch"
        inner = self.inner(node, attribute, self.steps)
        inner.is_body = self.is_body
        for each in sorted_nodes(inner.scope):
            inner.node(each)
        for name, output in zip(node.output, inner.scope.outputs, strict=True):
            if name:
                self.known[name] = inner.value(output)

    def inner(self, node: NodeProto, attribute: str, steps: list[Step]) -> _Planner:
        """A planner for a body of ``node``."""
        scope = self.scope.children(node)[attribute]
        prefix = f"{self.prefix}{label(node)}.{attribute}/"
        return _Planner(self.request, self.plan, scope, steps, self, prefix, True)

    def body(self, scope: Scope) -> Body:
        """The steps of a body that is run as its owner decides."""
        assert scope.owner is not None
        children = self.scope.children(scope.owner)
        attribute = next(name for name, each in children.items() if each is scope)
        inner = self.inner(scope.owner, attribute, [])
        for name in scope.inputs:
            inner.known[name] = _Value(self.plan.slot())
        for each in sorted_nodes(scope):
            inner.node(each)
        return Body(
            tuple(inner.steps),
            tuple(inner.known[name].slot for name in scope.inputs),
            tuple(inner.on_device(inner.value(name)) for name in scope.outputs),
        )


def _beside(function: Any, x: Tensor) -> Tensor:
    """What a function makes of the shape of ``x``, on the device of ``x``."""
    made: Tensor = function(x)
    return made.to(x.device)
