"""Where quantization goes: which nodes compute on integers, which tensors carry Q and DQ."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from graphopt.analysis.slow_layers import Beside, leave_alone, slow_kind
from graphopt.facts.layers import Layer, Refusal, layer, layers
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Scope
from graphopt.graph.node import attribute, is_op
from graphopt.numerics.grids import CodeName
from graphopt.rewrite.quantized_activations import Placement
from graphopt.targets import OpRule, Target

__all__ = ["Refuse", "place"]

Refuse = Callable[[NodeProto], str | None]
"""Why a node must stay float; None where it may compute on integers."""


def place(
    scope: Scope,
    shapes: Shapes,
    target: Target,
    refuse: Refuse,
    *,
    weights: CodeName = "int8",
    wide: Callable[[NodeProto], bool] | None = None,
    activations: CodeName = "uint8",
) -> Placement:
    """Plan the quantization of a scope by the target's rules.

    Args:
        scope: What to plan.
        shapes: Of its tensors.
        target: What becomes integer there.
        refuse: Which nodes must stay float.
        weights: Codes that weights get.
        wide: Which layers get int8 instead; none by default.
        activations: Codes that activations get.

    Layers with a weight come first. An operator that only moves values joins where an integer
    node reads its result. Any other operator joins where all its inputs are integers already and
    an integer node reads its result. So no value is rounded that no integer kernel needs. A layer
    of codes for which the target has no kernel computes in floats from rounded values: Q and DQ
    stand in front of it alone.
    """
    return _Planner(scope, shapes, target, weights, activations, wide).plan(refuse)


@dataclass
class _Planner:
    scope: Scope
    shapes: Shapes
    target: Target
    weight_type: CodeName
    activation_type: CodeName
    wide: Callable[[NodeProto], bool] | None = None

    def plan(self, refuse: Refuse) -> Placement:
        placement = self._layers(refuse)
        placement.moved = self._settle(placement.nodes, refuse)
        self._name_tensors(placement)
        integer = placement.integer_nodes()
        placement.guarded = [
            each
            for each in layers(self.scope)
            if isinstance(each, Layer)
            and is_op(each.node, *self.target.requantizes)
            and id(each.node) not in integer
            and each.weight.form != "integer"
            and each.weight.index == 1
            and self._unmoved(each.data, placement.produced) in placement.produced
        ]
        return placement

    def _layers(self, refuse: Refuse) -> Placement:
        """The layers with a weight: which become integer, which do not and why."""
        placement = Placement()
        for node in self.scope.nodes:
            rule = self._rule(node)
            if rule is None or rule.role != "weighted":
                continue
            reason = refuse(node)
            found = self._layer(node) if reason is None else Refusal(node, reason)
            if isinstance(found, Layer):
                placement.layers.append(found)
            else:
                placement.refused.append(found)
        if self.target.slow.alone:
            self._leave_alone(placement)
        return placement

    def _leave_alone(self, placement: Placement) -> None:
        scope, target = self.scope, self.target
        leave_alone(placement, Beside(scope, self.shapes, target, self._result, self._joins))

    def _joins(self, node: NodeProto) -> bool:
        """Whether a node without a weight may compute on integers beside those that do."""
        rule = self._rule(node)
        return rule is not None and rule.role != "weighted"

    # single nodes

    def _rule(self, node: NodeProto) -> OpRule | None:
        """The target's rule for the node, if its version and attributes allow it."""
        rule = self.target.rules.get(node.op_type) if is_op(node, node.op_type) else None
        if rule is None or not rule.pays or self.scope.graph.opset < rule.min_opset:
            return None
        wrong = any(attribute(node, k, v) != v for k, v in rule.attributes.items())
        return None if wrong else rule

    def _weights(self, node: NodeProto) -> CodeName:
        return "int8" if self.wide is not None and self.wide(node) else self.weight_type

    def _computes(self, node: NodeProto) -> bool:
        """Whether the target has an integer kernel for the node with these codes."""
        rule = self._rule(node)
        return rule is not None and rule.computes(self._weights(node), self.activation_type)

    def _is_float(self, tensor: str) -> bool:
        info = self.shapes.get(tensor)
        return info is not None and info.data_type == TensorProto.FLOAT

    def _layer(self, node: NodeProto) -> Layer | Refusal:
        """The layer that a node is, if it can compute on integers."""
        found = layer(self.scope, node)
        if not isinstance(found, Layer):
            return found or Refusal(node, "it has no weight")
        rule, codes = self.target.rules[node.op_type], (self._weights(node), self.activation_type)
        if self.target.refuses(rule, *codes):
            has = f"target {self.target.name} has no {node.op_type}"
            return Refusal(node, f"{has} of {codes[0]} weights and {codes[1]} activations")
        refusal = found.refusal("codable", "right") or (
            found.refusal("matrix") if found.kind == "linear" else None
        )
        if refusal is None and (why := slow_kind(found, self.target.slow)):
            return Refusal(node, why)
        refusal = refusal or (found.refusal("float32 bias") if found.adds else None)
        return refusal or found.refusal("fixed", "finite") or found

    def activations(self, node: NodeProto) -> list[str]:
        """The inputs of a node that its integer kernel reads as activations."""
        rule = self._rule(node)
        assert rule is not None
        if rule.role == "weighted":
            return [node.input[0]]
        which = range(len(node.input)) if rule.inputs is None else rule.inputs
        return [node.input[i] for i in which if i < len(node.input) and node.input[i]]

    def outputs(self, node: NodeProto) -> list[str]:
        """The tensors that the integer kernel writes."""
        rule = self._rule(node)
        if rule is not None and rule.role == "same":  # it has no range of its own to cut at
            return list(node.output)
        return [self._result(node)]

    def _result(self, node: NodeProto) -> str:
        """What a kernel with a range of its own writes: behind an activation that it swallows."""
        out: str = node.output[0]
        uses = self.scope.uses(out)
        if self.scope.is_output(out) or len(uses) != 1 or uses[0].scope is not self.scope:
            return out
        reader = uses[0].node
        swallowed = is_op(reader, *self.target.activations) and uses[0].index == 0
        if swallowed and not (is_op(reader, "Clip") and not self._clips_at_zero(reader)):
            return str(reader.output[0])
        return out

    def _activated(self, node: NodeProto) -> bool:
        """Whether an activation alone reads the result.

        onnxruntime (1.32) then leaves the layer float unless Q stands behind it, even a layer
        whose integer kernel can give floats.
        """
        uses = self.scope.uses(node.output[0])
        return len(uses) == 1 and is_op(uses[0].node, *self.target.activations)

    def _clips_at_zero(self, node: NodeProto) -> bool:
        """Whether a Clip cuts at zero and some constant, so that a uint8 range can replace it."""
        if self.scope.graph.opset < 11 or len(node.input) < 2 or not node.input[1]:
            return False
        bounds = [self.scope.constant(name) for name in node.input[1:] if name]
        if any(bound is None or math.prod(bound.shape) != 1 for bound in bounds):
            return False
        return bounds[0] is not None and float(bounds[0].values.item()) == 0.0

    # the whole scope

    def _settle(self, layers: list[NodeProto], refuse: Refuse) -> list[NodeProto]:
        """The largest set of other nodes that satisfies both conditions of ``place``.

        Starts from all and takes out what does not hold, then looks again at its neighbours.
        """
        moved = {id(n): n for n in self.scope.nodes if self._may_move(n, refuse)}
        layers = [node for node in layers if self._computes(node)]
        needed, carried = self._flow(layers, list(moved.values()))
        makers, readers = dict[str, list[int]](), dict[str, list[int]]()
        for key, node in moved.items():
            for name in self.outputs(node):
                makers.setdefault(name, []).append(key)
            for name in self.activations(node):
                readers.setdefault(name, []).append(key)
        waiting = list(moved)
        while waiting:
            key = waiting.pop()
            if key not in moved or self._holds(moved[key], needed, carried):
                continue
            less_needed, less_carried = self._flow([], [moved.pop(key)])
            for name in _take(needed, less_needed):
                waiting += makers.get(name, ())
            for name in _take(carried, less_carried):
                waiting += readers.get(name, ())
        return list(moved.values())

    def _may_move(self, node: NodeProto, refuse: Refuse) -> bool:
        rule = self._rule(node)
        if rule is None or rule.role == "weighted" or refuse(node) is not None:
            return False
        if not self._computes(node):
            return False
        if not all(map(self._is_float, node.output)) or not self._all_read(node):
            return False
        if len(node.output) > 1 and rule.role != "same":
            return False
        return all(
            self._is_float(name) and self.scope.constant(name) is None
            for name in self.activations(node)
        )

    def _all_read(self, node: NodeProto) -> bool:
        """Whether every output is used; onnxruntime wants Q on each of them."""
        return all(self.scope.is_read(name) or self.scope.is_output(name) for name in node.output)

    def _flow(
        self, layers: list[NodeProto], moved: list[NodeProto]
    ) -> tuple[Counter[str], Counter[str]]:
        """Tensors that an integer node reads, and tensors that one must have as integers.

        Each with the number of nodes that ask for it.
        """
        needed = Counter(name for node in (*layers, *moved) for name in self.activations(node))
        carried = Counter(name for node in layers for name in self.activations(node))
        for node in layers:
            rule = self._rule(node)
            if rule is not None and (rule.needs_output or self._activated(node)):
                carried.update(self.outputs(node))
        for node in moved:
            rule = self._rule(node)
            carried.update(self.outputs(node))
            if rule is not None and rule.role == "same":
                carried.update(self.activations(node))
        return needed, carried

    def _holds(self, node: NodeProto, needed: Counter[str], carried: Counter[str]) -> bool:
        rule = self._rule(node)
        assert rule is not None
        if not any(name in needed for name in self.outputs(node)):
            return False
        return rule.role == "same" or all(name in carried for name in self.activations(node))

    def _name_tensors(self, placement: Placement) -> None:
        """Which tensors get Q and DQ, and from whom they take their parameters."""
        layers = [node for node in placement.nodes if self._computes(node)]
        needed, carried = self._flow(layers, placement.moved)
        quantized = {*needed, *carried}
        for node in (*layers, *placement.moved):
            placement.produced.update(quantized.intersection(self.outputs(node)))
        quantized.update(name for node in placement.nodes for name in self.activations(node))
        same: dict[str, str] = {}
        for node in placement.moved:
            rule = self._rule(node)
            if rule is not None and rule.role == "same":
                source = self.activations(node)[0]
                same.update(dict.fromkeys(node.output, same.get(source, source)))
        for name in sorted(quantized):
            root = name
            while root in same:
                root = same[root]
            placement.roots[name] = root

    def _unmoved(self, name: str, known: set[str]) -> str:
        """The tensor whose values a float tensor holds, moved or selected, back to a known one."""
        while name not in known:
            node = self.scope.producer(name)
            rule = None if node is None else self._rule(node)
            if node is None or not (
                is_op(node, "Identity", "Dropout") or (rule and rule.role == "same")
            ):
                break
            name = node.input[0]
        return name


def _take(counts: Counter[str], less: Counter[str]) -> Iterator[str]:
    """Subtract counts; the names of which nothing is left."""
    counts.subtract(less)
    for name in less:
        if not counts[name]:
            del counts[name]
            yield name
