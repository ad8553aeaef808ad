"""The first and the last layers of a network."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from graphopt.facts.layers import Layer, layers
from graphopt.graph.graph import Scope
from graphopt.graph.order import sorted_nodes

__all__ = ["edge_layers", "first_layers", "last_layers"]


def edge_layers(scope: Scope) -> list[NodeProto]:
    """The layers that are first or last, in order.

    They see the samples or give the answers, and suffer most from few bits.
    """
    found = {id(node) for node in (*first_layers(scope), *last_layers(scope))}
    return [node for node in sorted_nodes(scope) if id(node) in found]


def first_layers(scope: Scope) -> list[NodeProto]:
    """The layers with a weight that no other one comes before.

    A network of several branches has several. The form of a weight does not count, so they stay the
    same when they are quantized; tables, whose rows are looked up, are none. Layers in bodies are
    none themselves, but they do come before what reads the results of their owner.
    """
    return list(_outermost(scope, sorted_nodes(scope), forwards=True))


def last_layers(scope: Scope) -> list[NodeProto]:
    """The layers with a weight that no other one follows; else as ``first_layers``."""
    return list(_outermost(scope, sorted_nodes(scope)[::-1], forwards=False))


def _outermost(scope: Scope, nodes: list[NodeProto], *, forwards: bool) -> Iterator[NodeProto]:
    """The layers that one meets first on each way through ``nodes``."""
    behind: set[str] = set()
    weighted = {id(layer.node) for layer in _weighted(scope)}
    for node in nodes:
        bodies = list(scope.children(node).values())
        read = set(scope.reads(node))
        source, result = (read, node.output) if forwards else (set(node.output), read)
        met = not behind.isdisjoint(source)
        is_layer = id(node) in weighted
        if is_layer and not met:
            yield node
        if met or is_layer or any(_has_layer(body) for body in bodies):
            behind.update(result)


def _weighted(scope: Scope) -> Iterator[Layer]:
    for each in layers(scope):
        if isinstance(each, Layer) and each.kind != "table":
            yield each


def _has_layer(body: Scope) -> bool:
    return any(True for scope in body.walk() for _ in _weighted(scope))
