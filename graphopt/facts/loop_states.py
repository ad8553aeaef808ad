"""What the states of loops are as large as: what they start with, where the body keeps that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto
from onnx.helper import make_tensor_value_info

from graphopt.facts.shapes import Shapes, infer
from graphopt.graph.graph import Graph
from graphopt.graph.node import is_op

__all__ = ["settle_states"]


@dataclass(frozen=True)
class _State:
    """A state of a Loop: in its body the input that brings it and the output that hands it on."""

    before: ValueInfoProto
    after: ValueInfoProto
    shape: tuple[int, ...]
    declared: tuple[bytes, bytes]


def settle_states(model: ModelProto, shapes: Shapes) -> bool:
    """Declare in the bodies of Loops the shapes that their states have in every round.

    That is the shape of the first value, where the body gives a state of that shape for one of
    that shape; others stay as they are.

    Args:
        model: Edited; weights may be missing.
        shapes: Of its tensors, as far as they are known.

    Returns:
        Whether anything was declared.
    """
    states = [state for node in _nodes(model.graph) for state in _states(node, shapes)]
    for state in states:
        for value in (state.before, state.after):
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(make_tensor_value_info(value.name, kind, state.shape))
        state.after.type.tensor_type.ClearField("shape")
    found = infer(Graph(model)) if states else shapes
    kept = [state for state in states if found.static_shape(state.after.name) == state.shape]
    for state in states:
        if state not in kept:
            for value, text in zip((state.before, state.after), state.declared, strict=True):
                value.ParseFromString(text)
    return bool(kept)


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nodes(attribute.g)


def _states(node: NodeProto, shapes: Shapes) -> Iterator[_State]:
    """The states of a Loop that starts with tensors of known shapes."""
    body = next((a.g for a in node.attribute if a.name == "body"), None)
    if body is None or not is_op(node, "Loop"):
        return
    ports = zip(node.input[2:], body.input[2:], body.output[1:], strict=False)
    for initial, before, after in ports:
        shape = shapes.static_shape(initial)
        if shape is not None and before.type.HasField("tensor_type"):
            texts = before.SerializeToString(), after.SerializeToString()
            yield _State(before, after, shape, texts)
