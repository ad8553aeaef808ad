"""Casts of half float constants behind what only moves their elements, so that it can be folded."""

from __future__ import annotations

from onnx import NodeProto, TensorProto
from onnx.helper import make_node

from graphopt.facts.operators import MOVES, is_kind
from graphopt.graph.graph import Graph, Scope, Use
from graphopt.graph.node import attribute, is_op
from graphopt.rewrite.edit import forget
from graphopt.rewrite.half_weights import HALVES

__all__ = ["cast_late", "merge_casts"]

_INTEGERS = (TensorProto.INT64, TensorProto.INT32)
_OPSET = 13  # from which on what moves elements takes bfloat16


def cast_late(graph: Graph) -> list[NodeProto]:
    """Let nodes that only move elements work on half floats, and cast what comes out.

        W float16 -> Cast -> Split      becomes      W float16 -> Split -> Cast, Cast

    Folded behind a Cast, a result would take twice the bytes.

    Returns:
        The nodes that read half floats now.
    """
    moved: list[NodeProto] = []
    for scope in graph.scopes() if graph.opset >= _OPSET else ():
        waiting = [node for node in scope.nodes if _widens_constant(scope, node)]
        while waiting:
            cast = waiting.pop()
            for use in scope.uses(cast.output[0]):
                if _only_moves(scope, use):
                    waiting += _swapped(scope, cast, use.node)
                    moved.append(use.node)
            if not scope.is_read(cast.output[0]) and not scope.is_output(cast.output[0]):
                scope.remove([cast])
    return moved


def merge_casts(graph: Graph) -> list[NodeProto]:
    """Let one Cast of a half float constant to float32 stand for all of its scope.

    Returns:
        The nodes that are gone.
    """
    gone: list[NodeProto] = []
    for scope in graph.scopes():
        first: dict[str, NodeProto] = {}
        for node in [node for node in scope.nodes if _widens_constant(scope, node)]:
            kept = first.setdefault(node.input[0], node)
            name = node.output[0]
            named = scope.is_output(name) or any(use.index < 0 for use in scope.any_uses(name))
            if kept is not node and not named:
                scope.replace_uses(name, kept.output[0])
                scope.remove([node])
                forget(scope, [name])
                gone.append(node)
    return gone


def _widens_constant(scope: Scope, node: NodeProto) -> bool:
    if not is_op(node, "Cast") or attribute(node, "to", 0) != TensorProto.FLOAT:
        return False
    stored = scope.constant(node.input[0])
    return stored is not None and stored.data_type in HALVES and not stored.overridable


def _only_moves(scope: Scope, use: Use) -> bool:
    """Whether the reader moves elements as integers that are constants say."""
    if use.scope is not scope or use.index != 0 or not is_kind(use.node, *MOVES):
        return False
    others = [scope.constant(name) for name in use.node.input[1:] if name]
    return all(each is not None and each.data_type in _INTEGERS for each in others)


def _swapped(scope: Scope, cast: NodeProto, node: NodeProto) -> list[NodeProto]:
    """Let a node read what a Cast reads; the Casts of what it gives then."""
    scope.set_input(node, 0, cast.input[0])
    behind, casts = scope.following(node), list[NodeProto]()
    for index, name in enumerate(node.output):
        if name:
            half = scope.graph.unique_name(f"{name}_half")
            scope.set_output(node, index, half)
            casts.append(make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    scope.add(*casts, before=behind)
    return casts
