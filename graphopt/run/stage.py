"""Where the model stands: one state of the graph, with everything derived from it."""

from __future__ import annotations

from functools import cached_property

from graphopt.contract.findings import Findings
from graphopt.contract.kept import Kept
from graphopt.facts import shapes
from graphopt.facts.sized import Sized
from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.observe.observer import Observer
from graphopt.run.means import Means
from graphopt.run.promises import Promises
from graphopt.run.shared_session import HELD_WEIGHTS_BYTES, SharedSession
from graphopt.run.sizing import sized_run
from graphopt.runtime.session import Session
from graphopt.runtime.trace import trace
from graphopt.runtime.work import Work

__all__ = ["Stage"]


class Stage:
    """One state of the model; what is derived from it is found once and goes with it.

    The graph is never edited: a pass works on a copy, which becomes the next stage. Rolling back
    is to go on from this one.

    Args:
        graph: The model as it is.
        means: What the run measures with.
        origin: The stage before the first lossy pass; None until there was one.
        kept: Which channels of the origin's tensors are left.
        rounded_from: The stage before the first pass that quantizes; None until there was one.
    """

    def __init__(
        self,
        graph: Graph,
        means: Means,
        origin: Stage | None = None,
        kept: Kept | None = None,
        rounded_from: Stage | None = None,
    ) -> None:
        self.graph, self.origin, self.rounded_from = graph, origin, rounded_from
        self.kept: Kept = {} if kept is None or origin is None else kept
        self.findings = Findings()
        self._means = means
        self._session = SharedSession(graph, means.threads, held=not self._short)

    @property
    def float_stage(self) -> Stage:
        """Where the model stood before the first lossy pass; itself until there was one."""
        return self.origin or self

    @property
    def unrounded_stage(self) -> Stage:
        """Where the model stood before the first pass that quantizes; itself until then."""
        return self.rounded_from or self

    @property
    def _short(self) -> bool:
        """Whether memory is short, or would be: beside the sessions of a large reference."""
        means = self._means
        return means.memory(1) is not None or means.reference.weight_bytes > HELD_WEIGHTS_BYTES

    @property
    def session(self) -> Session:
        """A session of the graph with its own outputs; held unless memory is short.

        Raises:
            ModelError: onnxruntime cannot load it.
        """
        judge = self._means.judge
        if judge is not None and judge.reference is self.graph:
            return judge.session
        return self._session.get()

    def rest(self) -> None:
        """Let go of the answers where memory is short; they are computed again if asked for."""
        if self._short:
            self.__dict__.pop("answers", None)

    @cached_property
    def problems(self) -> list[str]:
        """What is wrong with the graph by ONNX's rules."""
        return check.problems(self.graph)

    @cached_property
    def shapes(self) -> shapes.Shapes:
        """Shapes of the graph's tensors; traced in a run where inference leaves ranks open."""
        inferred = shapes.infer(self.graph)
        judge = self._means.judge
        if judge is not None and _unknown(self.graph, inferred):
            feeds = judge.samples[0].feeds
            seen = trace(self.graph, feeds, threads=self._means.threads)
            inferred = shapes.infer(self.graph, seen)
        return inferred

    @cached_property
    def sizes(self) -> Sized:
        """The model at the sizes of the first sample."""
        judge, threads = self._means.judge, self._means.threads
        feeds = None if judge is None else judge.samples[0].feeds
        return sized_run(self.graph, feeds, threads=threads, known=self.shapes)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one run on the first sample; None where they are unknown."""
        return self.sizes.macs.total

    @cached_property
    def promises(self) -> Promises:
        """What it is worth beyond its answers, for the passes that follow to keep."""
        return Promises(self.graph)

    @cached_property
    def work(self) -> Work:
        """What onnxruntime does for the graph, to tell whether another one takes the same time.

        Raises:
            ModelError: onnxruntime cannot load it, or cannot save what it made of it.
        """
        return Work(self.graph)

    @cached_property
    def answers(self) -> list[dict[str, Array]]:
        """What the graph answers to the judge's samples; no session is held for it.

        Raises:
            ModelError: onnxruntime cannot load or run it.
        """
        judge = self._means.judge
        assert judge is not None
        if judge.reference is self.graph:
            return judge.expected
        return judge.run(self._session.passing())

    @cached_property
    def observer(self) -> Observer:
        """Answers requests about this state, each by one run of the model."""
        means = self._means
        limit, threads = means.memory(4), means.threads
        return Observer(
            self.graph, means.calibration, limit, threads, means.progress, means.deadline
        )


def _unknown(graph: Graph, known: shapes.Shapes) -> bool:
    """Whether inference left the rank of a tensor of the main graph open."""
    names = (name for node in graph.main.nodes for name in node.output if name)
    infos = (known.get(name) for name in names)
    return any(info is None or info.shape is None for info in infos)
