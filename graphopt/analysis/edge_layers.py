"""The first and the last layers of a network."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from graphopt.facts.layers import float_layers
from graphopt.graph.graph import Scope
from graphopt.graph.order import sorted_nodes

__all__ = ["edge_layers"]


def edge_layers(scope: Scope) -> list[NodeProto]:
    """The layers with a weight that no other one comes before, or that no other one follows.

    They see the samples or give the answers, and suffer most from few bits. A network of several
    branches has several of each. Layers in bodies are none themselves, but they do come before
    what reads the results of their owner.
    """
    order = sorted_nodes(scope)
    first = _outermost(scope, order, forwards=True)
    last = _outermost(scope, order[::-1], forwards=False)
    found = {id(node) for node in (*first, *last)}
    return [node for node in order if id(node) in found]


def _outermost(scope: Scope, nodes: list[NodeProto], *, forwards: bool) -> Iterator[NodeProto]:
    """The layers that one meets first on each way through ``nodes``."""
    behind: set[str] = set()
    weighted = {id(layer.node) for layer in float_layers(scope)}
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


def _has_layer(body: Scope) -> bool:
    return any(True for scope in body.walk() for _ in float_layers(scope))
