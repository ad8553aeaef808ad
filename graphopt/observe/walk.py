"""Answers of one layer after another, while the graph is being edited from front to back."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, TypeVar

import numpy as np
from onnx import NodeProto
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.data.samples import Samples, bytes_of
from graphopt.deadline import Deadline
from graphopt.errors import DataError, Need, PassError
from graphopt.facts.operands import FLOATS
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.graph.node import is_op
from graphopt.graph.tensors import Array
from graphopt.observe.extract import extract
from graphopt.observe.request import Folder, Request, Rows
from graphopt.observe.run import draw, values_per_run, with_rows
from graphopt.runtime.session import Session

__all__ = ["BATCH", "Walk"]

A = TypeVar("A")

BATCH = 8
"""Samples in one feed, where the model takes so many."""
_DEFAULT_BYTES = 4 << 30
"""What 256 samples of 16 MB take, with the largest results of their layers."""


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
        memory_limit: Bytes that may be held; None for 4 GB.
        deadline: Asked before each run of a piece; None for no limit.

    Attributes:
        count: Samples that it runs on.

    Raises:
        PassError: The samples take more than that.
    """

    def __init__(
        self,
        graph: Graph,
        samples: Samples,
        threads: int = 0,
        batch: int = BATCH,
        memory_limit: int | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self.graph, self.threads, self.count = graph, threads, samples.count
        self._deadline = deadline or Deadline()
        self._most = _DEFAULT_BYTES if memory_limit is None else memory_limit
        self._refuse_more_than_allowed(bytes_of(samples))
        self._held: list[dict[str, Array]] = []
        self._rows: list[Rows] = []
        for feeds, rows in with_rows(graph, samples, batch):
            self._held.append(dict(feeds))
            self._rows.append(rows)
        self._per_run = values_per_run(len(self._held))
        self._done: set[int] = set()
        self._ends: set[str] = set()

    def ask(self, request: Request[A]) -> A:
        """The answer of the graph as it is now.

        Raises:
            DataError: The tensor holds NaN or infinite values. Others may still be asked for.
            ModelError: onnxruntime cannot run the piece.
            PassError: What must be held takes more memory than is allowed, or the time is over.
        """
        tensor = request.tensor
        last = self.graph.main.producer(tensor)
        piece = self.graph.main.ancestors([tensor], stop=self._held[0])
        self._done |= {id(n) for n in piece if n is not last and not _is_cheap(n)}
        outputs = [name for name in (tensor, *self._kept(piece)) if name not in self._held[0]]
        rng = np.random.default_rng(0)
        folder: Folder[A] | None = None
        failure: DataError | None = None
        for (held, arrays), rows in zip(self._runs([tensor], outputs), self._rows, strict=True):
            values = held[tensor] if tensor in held else np.asarray(arrays.pop(tensor))
            if folder is None:
                folder = request.folder(values.shape, self._per_run)
            drawn = draw(folder.taps, rng)
            if failure is None:
                try:
                    folder.take({tap: tap.compute(values, drawn) for tap in folder.taps}, rows)
                except DataError as err:  # others may still be asked
                    failure = err
        if failure is not None:
            raise failure
        assert folder is not None
        return folder.result()

    def advance(self, node: NodeProto) -> None:
        """Run on to a node of the graph, and hold what it and those behind it read.

        What the model gives to its callers is held as well, so that all of it can be asked for.
        """
        scope = self.graph.main
        order = [id(each) for each in scope.nodes]
        passed = scope.nodes[: order.index(id(node))]
        self._done |= {id(each) for each in passed if not _is_cheap(each)}
        self._ends = set(scope.outputs)
        fed = set(scope.inputs)
        for each in passed:
            if not fed.isdisjoint(scope.reads(each)):
                fed.update(each.output)
        # What depends on constants alone is the same for all samples and costs one run a piece.
        outputs = [name for name in self._kept(passed) if name in fed and name not in self._held[0]]
        for _ in self._runs(outputs, outputs):
            pass

    def fork(self, graph: Graph) -> Walk:
        """A walk along another graph from where this one has come to.

        Args:
            graph: One that computes the same in front of the last node advanced to.
        """
        twin = copy(self)
        twin.graph, twin._held, twin._done = graph, [dict(each) for each in self._held], set()
        return twin

    def _runs(
        self, tensors: list[str], outputs: list[str]
    ) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
        """Run the piece that gives some tensors; what is held, and what was computed, by feed.

        What is left of the latter, once the next is asked for, is held from then on, without what
        nobody reads any more.
        """
        session = self._session(tensors, outputs) if outputs else None
        types = {} if session is None else self._types(session)
        over = [name for name in self._held[0] if not self._wanted(name)]
        total = 0
        for held in self._held:
            self._deadline.check("before all layers were walked through")
            arrays = {} if session is None else session.run({n: held[n] for n in session.inputs})
            for name in arrays.keys() & types:
                arrays[name] = arrays[name].astype(types[name])
            yield held, arrays
            held.update(arrays)
            for name in over:
                held.pop(name, None)
            total += sum(each.nbytes for each in held.values() if isinstance(each, np.ndarray))
            self._refuse_more_than_allowed(total)

    def _types(self, session: Session) -> dict[str, np.dtype[Any]]:
        """Types that tensors have in the graph, where a session gives them as float32."""
        if not (session.stands_in_for or session.widened):
            return {}
        shapes = infer(self.graph)
        infos = {name: shapes.get(name) for name in session.outputs}
        return {
            name: np.dtype(tensor_dtype_to_np_dtype(info.data_type))
            for name, info in infos.items()
            if info is not None and info.data_type in FLOATS
        }

    def _refuse_more_than_allowed(self, needed: int) -> None:
        if needed > self._most:
            message = "the samples and what layers make of them take more memory than is allowed"
            raise PassError(f"{message}; give fewer samples", Need.MEMORY_LIMIT)

    def _kept(self, piece: list[NodeProto]) -> list[str]:
        """Results of finished nodes of the piece that somebody still has to read."""
        finished = [node for node in piece if id(node) in self._done]
        return [name for node in finished for name in node.output if name and self._wanted(name)]

    def _wanted(self, name: str) -> bool:
        if name in self._ends:
            return True
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

    def _session(self, tensors: list[str], outputs: list[str]) -> Session:
        """A session of the nodes from what is held to some tensors."""
        part = extract(self.graph, tensors, self._held[0])
        return Session(part, threads=self.threads, outputs=outputs)


def _is_cheap(node: NodeProto) -> bool:
    """Whether a node is run again rather than its result held, which is four times as large."""
    return is_op(node, "DequantizeLinear")
