"""Words that choose layers by what they are, for nodes without a name and models not yet seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from onnx import NodeProto

from graphopt.facts.edge_layers import first_layers, last_layers
from graphopt.facts.layers import Layer, layers
from graphopt.graph.graph import Graph

__all__ = ["NODE_KINDS", "NodeKind"]


@dataclass(frozen=True)
class NodeKind:
    """A word for layers of one kind.

    Attributes:
        meaning: A phrase that says which layers.
        nodes: Finds them in a graph, in bodies too where the kind is one of a single layer.
    """

    meaning: str
    nodes: Callable[[Graph], Iterator[NodeProto]]


def _convolutions(test: Callable[[Layer], bool]) -> Callable[[Graph], Iterator[NodeProto]]:
    """The convolutions, of weights in any form, that pass a test."""

    def found(graph: Graph) -> Iterator[NodeProto]:
        for each in layers(graph):
            if isinstance(each, Layer) and each.kind == "conv" and test(each):
                yield each.node

    return found


def _pointwise(layer: Layer) -> bool:
    return not layer.depthwise and all(size == 1 for size in layer.weight.constant.shape[2:])


NODE_KINDS: Mapping[str, NodeKind] = {
    "depthwise": NodeKind(
        "each Conv with one input channel a group", _convolutions(lambda each: each.depthwise)
    ),
    "grouped": NodeKind(
        "each Conv and ConvTranspose of several groups, depthwise ones among them",
        _convolutions(lambda each: each.groups > 1),
    ),
    "pointwise": NodeKind(
        "each Conv and ConvTranspose with a kernel of size 1 that is not depthwise",
        _convolutions(_pointwise),
    ),
    "first": NodeKind(
        "each layer with a weight, but a table, that no other one comes before",
        lambda graph: iter(first_layers(graph.main)),
    ),
    "last": NodeKind(
        "each layer with a weight, but a table, that no other one follows",
        lambda graph: iter(last_layers(graph.main)),
    ),
}
"""By the word as it stands among patterns. A word always means the kind, never a node's name."""
