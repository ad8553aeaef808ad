"""Calls of local functions as the nodes they stand for."""

from __future__ import annotations

import onnx.inliner

from graphopt.graph.graph import Graph

__all__ = ["without_functions"]


def without_functions(graph: Graph) -> Graph:
    """The graph, or one without local functions whose main graph has the same constants."""
    if not graph.header.functions:
        return graph
    inlined = onnx.inliner.inline_local_functions(graph.to_model())
    plain = Graph(inlined, graph.folder, take_over=True)
    plain.libraries = graph.libraries
    return plain
