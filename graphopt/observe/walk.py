"""Means of one layer after another, while the graph is being edited from front to back."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.data.samples import Samples
from graphopt.graph.declared import ValueInfos
from graphopt.graph.graph import Graph
from graphopt.graph.node import is_op
from graphopt.graph.tensors import Array
from graphopt.observe.answers import Rows
from graphopt.observe.run import with_rows
from graphopt.runtime.session import Session

__all__ = ["BATCH", "Walk"]

BATCH = 8
"""Samples in one feed, where the model takes so many."""


class Walk:
    """Runs a graph piece by piece over some samples and holds what the next pieces read.

    Asked for tensors in the order in which they are computed, it runs each node about twice in
    all, where a run from the inputs for each layer would grow with the square of the depth. What
    a caller may change between two questions is the node of the last tensor asked for, its
    constants, and whatever comes behind it.

    Args:
        graph: The graph that the caller edits; read anew at each question.
        samples: Where feeds come from; all of them are used.
        threads: Threads of the sessions.
        batch: Samples in one feed.
    """

    def __init__(
        self, graph: Graph, samples: Samples, threads: int = 0, batch: int = BATCH
    ) -> None:
        self.graph, self.threads = graph, threads
        self._held: list[dict[str, Array]] = []
        self._rows: list[Rows] = []
        for feeds, rows in with_rows(graph, samples, batch):
            self._held.append(dict(feeds))
            self._rows.append(rows)
        self._done: set[int] = set()

    def channel_mean(self, tensor: str, axis: int) -> NDArray[np.float64]:
        """Mean of a tensor of the main graph over everything but ``axis``: ``(channels,)``.

        Raises:
            ModelError: onnxruntime cannot run the piece.
        """
        last = self.graph.main.producer(tensor)
        assert last is not None, tensor
        piece = self._ancestors(tensor)
        self._done |= {id(n) for n in piece if n is not last and not _is_cheap(n)}
        kept = self._kept(piece)
        session = self._session(piece, [tensor, *kept])
        total: NDArray[np.float64] | None = None
        count = 0
        for held, rows in zip(self._held, self._rows, strict=True):
            found = session.run({name: held[name] for name in session.inputs})
            values = np.asarray(found.pop(tensor))
            if axis % values.ndim:
                values = values[: rows.count(len(values), len(values))]
            flat = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
            part = flat.sum(axis=1, dtype=np.float64)
            total = part if total is None else total + part
            count += flat.shape[1]
            held.update(found)
        self._forget()
        assert total is not None
        return total / max(count, 1)

    def _ancestors(self, tensor: str) -> list[NodeProto]:
        """The nodes to run for ``tensor``, in order; what is held need not be computed."""
        return self.graph.main.ancestors([tensor], stop=self._held[0])

    def _kept(self, piece: list[NodeProto]) -> list[str]:
        """Results of finished nodes of the piece that somebody still has to read."""
        finished = [node for node in piece if id(node) in self._done]
        return [name for node in finished for name in node.output if name and self._wanted(name)]

    def _wanted(self, name: str) -> bool:
        for use in self.graph.main.uses(name):
            node, scope = use.node, use.scope
            while scope.parent is not None and scope.owner is not None:
                node, scope = scope.owner, scope.parent
            if _is_cheap(node):
                if self._wanted(node.output[0]):
                    return True
            elif id(node) not in self._done:
                return True
        return False

    def _forget(self) -> None:
        """Let go of what nobody reads any more."""
        names = [name for name in self._held[0] if not self._wanted(name)]
        for held in self._held:
            for name in names:
                held.pop(name, None)

    def _session(self, piece: list[NodeProto], outputs: list[str]) -> Session:
        """A session of these nodes only, fed with what is held."""
        chosen = {id(node) for node in piece}
        positions = [i for i, node in enumerate(self.graph.main.nodes) if id(node) in chosen]
        part = self.graph.copy()
        scope = part.main
        nodes = [scope.nodes[i] for i in positions]
        kept = {id(node) for node in nodes}
        scope.remove([node for node in scope.nodes if id(node) not in kept])
        names = {name for node in nodes for name in scope.reads(node)}
        del scope.proto.input[:], scope.proto.output[:]
        scope.value_infos = ValueInfos()
        scope.touch()
        scope.drop_initializer(*(name for name in scope.initializers if name not in names))
        for name in sorted(names & self._held[0].keys()):
            kind = onnx.helper.np_dtype_to_tensor_dtype(self._held[0][name].dtype)
            scope.add_input(onnx.helper.make_tensor_value_info(name, kind, None))
        return Session(part, threads=self.threads, outputs=outputs)


def _is_cheap(node: NodeProto) -> bool:
    """Whether a node is run again rather than its result held, which is four times as large."""
    return is_op(node, "DequantizeLinear")
