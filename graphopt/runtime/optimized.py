"""The graph that onnxruntime really runs, with a way back to the nodes of the given graph."""

from __future__ import annotations

import re
from collections.abc import Iterator

import onnx
from onnx import AttributeProto, GraphProto, NodeProto

from graphopt.errors import ModelError
from graphopt.facts.operators import KEEPS, find, is_kind
from graphopt.facts.quantized import integer_op, moves_data
from graphopt.graph.graph import Graph, Scope
from graphopt.runtime.scratch import scratch_folder
from graphopt.runtime.session import Session

__all__ = ["RunningGraph", "number_nodes", "numbered", "optimize"]

_MARK = re.compile(r"#(\d+):")
_SAVING = {
    "session.optimized_model_external_initializers_file_name": "weights.bin",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
    "session.disable_prepacking": "1",
}
"""Weights lie beside the message, and are not packed for kernels that never run: of a model of
540 MB that takes as much memory again."""


class RunningGraph:
    """What onnxruntime makes of a graph.

    Every node gets a number as its name before the graph is handed over; onnxruntime (1.32) keeps
    names through its fusions.

    Args:
        graph: The model; not modified.
        threads: Threads of the session.

    Raises:
        ModelError: onnxruntime cannot load the model, or cannot save what it made of it.
    """

    def __init__(self, graph: Graph, threads: int = 0) -> None:
        running = optimize(graph, threads)
        numbers = (node for scope in graph.scopes() for node in scope.nodes)
        self._numbers = {id(node): number for number, node in enumerate(numbers)}
        self._marked: dict[int, list[NodeProto]] = {}
        self._producers: dict[str, NodeProto] = {}
        self._inputs = {value.name for value in running.input}
        self._integers: set[str] = set()
        for node in _walk(running):
            number = numbered(node.name)
            if number is not None:
                self._marked.setdefault(number, []).append(node)
            self._producers.update({name: node for name in node.output if name})
            if self._makes_integers(node):
                self._integers.update(node.output)

    def _makes_integers(self, node: NodeProto) -> bool:
        if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear"):
            return True
        if node.op_type == "QGemm":  # gives floats where scale and zero point of y are left out
            return len(node.input) > 7 and bool(node.input[7])
        if node.op_type.startswith("QLinear"):
            return True
        row = find(node)
        carries = moves_data(node) or (row is not None and row.same_name)
        return carries and bool(node.input) and node.input[0] in self._integers

    def kernel(self, scope: Scope, node: NodeProto) -> NodeProto | None:
        """The running node that does the work of ``node`` of the given graph.

        Where a node's name is gone, it went into the producer of the first tensor downstream that
        both graphs have. None if there is no such tensor: folded, or never read.
        """
        # what onnxruntime puts around a kernel is a kernel itself only where there is nothing else
        named = self._marked.get(self._numbers[id(node)])
        if named:
            return min(named, key=lambda made: is_kind(made, *KEEPS))
        ahead, seen = list(node.output), set[str]()
        while ahead:
            name = ahead.pop(0)
            if not name or name in seen:
                continue
            seen.add(name)
            if name in self._producers:
                return self._unwrapped(self._producers[name])
            for use in scope.uses(name):
                ahead.extend(use.node.output)
        return None

    def _unwrapped(self, node: NodeProto) -> NodeProto:
        """The node whose result ``node`` only converts or reshapes."""
        while is_kind(node, *KEEPS) and node.input[0] in self._producers:
            node = self._producers[node.input[0]]
        return node

    def on_integers(self, kernel: NodeProto) -> bool:
        """Whether a running node computes on integers."""
        if integer_op(kernel):
            return True
        return any(name in self._integers for name in kernel.input[:1])

    def dequantizes_weight(self, kernel: NodeProto) -> bool:
        """Whether a running node reads a constant that is dequantized at every run."""
        for name in kernel.input[:2]:
            maker = self._producers.get(name)
            while maker is not None and maker.op_type in ("Reshape", "Transpose"):
                maker = self._producers.get(maker.input[0])
            if maker is None or maker.op_type != "DequantizeLinear":
                continue
            if maker.input[0] not in self._producers and maker.input[0] not in self._inputs:
                return True
        return False


def number_nodes(graph: Graph) -> Graph:
    """A copy in which node n is called ``#n:OpType``, counted over the main graph and bodies."""
    copy = graph.copy()
    for number, node in enumerate(n for scope in copy.scopes() for n in scope.nodes):
        node.name = f"#{number}:{node.op_type}"
    return copy


def numbered(name: str) -> int | None:
    """The number of the node that a node of such a name stems from; None without one."""
    found = _MARK.match(name)
    return None if found is None else int(found.group(1))


def optimize(graph: Graph, threads: int) -> GraphProto:
    """What onnxruntime makes of a graph, nodes numbered, without the values of large weights.

    Level ``extended`` makes every integer kernel; ``all`` adds only changes of layout.

    Args:
        graph: The model; not modified.
        threads: Threads of the session; 0 for all cores.

    Raises:
        ModelError: onnxruntime cannot load the model, or cannot save what it made of it.
    """
    with scratch_folder() as folder:
        path = folder / "optimized.onnx"
        Session(
            number_nodes(graph), threads=threads, level="extended", optimized=path, config=_SAVING
        )
        try:
            return onnx.load(path, load_external_data=False).graph
        except Exception as err:  # a missing file or a bad message, each library with its class
            raise ModelError(f"onnxruntime's optimized graph cannot be read back: {err}") from err


def _walk(graph: GraphProto) -> Iterator[NodeProto]:
    """All nodes, each before the next one's bodies."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _walk(attribute.g)
