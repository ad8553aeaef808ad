"""The state of one run: the graph as it is now, and what observes and judges it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.contract.passes import Context, Training
from graphopt.contract.preconditions import refuse_without_samples
from graphopt.data.first import FirstSamples
from graphopt.data.samples import Samples
from graphopt.facts import shapes
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.observe.observer import Observer
from graphopt.observe.request import Answers, Request
from graphopt.observe.walk import BATCH, Walk
from graphopt.progress import Progress
from graphopt.run.judge import Probe
from graphopt.runtime.batches import largest_batch
from graphopt.runtime.session import Session
from graphopt.runtime.trace import trace
from graphopt.targets import Target

__all__ = ["Job"]


@dataclass
class Job:
    """The state of one run: the graph as it is now, and what judges it.

    Attributes:
        graph: Edited in place by the passes.
        reference: What results are measured against: the input model or its teacher; never edited.
        target: What the runtime fuses.
        samples: Calibration samples; None without.
        probe: The judge; None where the model cannot be run within the memory limit.
        min_sqnr_db: Least SQNR of every output that a lossy pass must leave.
        memory_limit: Bytes that observation may take beyond plain inference; None for 1 GB.
        threads: Threads of onnxruntime; 0 for all cores.
        seed: Seed of the passes' random numbers.
        strict: End the run at the first refusal or broken limit.
        progress: Told what is going on, how far it is and how far it goes.
        float_graph: The graph before the first lossy pass; None until there was one.
        drop: Measures how far a graph's metric falls below the reference's; None without a limit.
        max_drop: Most that it may fall.
        answers: What the graph answers to the probe; None before the first verified pass.
        observer: Answers requests about the graph as it is; None until a pass may ask.
        float_observer: The same of the graph that passes see as reference.
        inferred: Shapes of the graph as it is; None until somebody asks.
        batch: Samples that a feed may join; None until the first walk has tried.
        train: Samples to train on; None for the calibration samples.
        teacher: The model that training aims at; None for the input model.
        device: What training computes on.
        checkpoints: Folder for the state of a training; None for nowhere.
        start: The input model where it is not the reference; else None.
    """

    graph: Graph
    reference: Graph
    target: Target
    samples: Samples | None = None
    probe: Probe | None = None
    min_sqnr_db: float | None = None
    memory_limit: int | None = None
    threads: int = 0
    seed: int = 0
    strict: bool = False
    progress: Progress | None = None
    float_graph: Graph | None = None
    drop: Callable[[Graph], float] | None = None
    max_drop: float | None = None
    answers: list[dict[str, Array]] | None = None
    observer: Observer | None = None
    float_observer: Observer | None = None
    inferred: shapes.Shapes | None = None
    batch: int | None = None
    train: Samples | None = None
    teacher: Graph | None = None
    device: str = "auto"
    checkpoints: Path | None = None
    start: Graph | None = None

    def fork(self) -> Job:
        """A job that goes on from here on its own copy of the graph."""
        self.as_handed_over()
        return replace(self, graph=self.graph.copy())

    def forget(self) -> None:
        """Drop what was known of the graph before it changed."""
        self.observer = None
        self.inferred = None

    def shapes(self) -> shapes.Shapes:
        """Shapes of the graph as it is now; inferred once per state of the graph."""
        if self.inferred is None:
            self.inferred = shapes.infer(self.graph)
            if self.probe is not None and _unknown(self.graph, self.inferred):
                seen = trace(self.graph, self.probe.samples[0].feeds, threads=self.threads)
                self.inferred = shapes.infer(self.graph, seen)
        return self.inferred

    def as_handed_over(self) -> Observer:
        """What answers requests about the graph as it is, whatever a pass does to it then."""
        if self.observer is None:
            self.observer = self._observer(self.graph.copy())
        return self.observer

    def _observer(self, graph: Graph) -> Observer:
        return Observer(graph, self.samples, self.memory_limit, self.threads, self.progress)

    def observe(
        self,
        requests: Iterable[Request[Any]],
        graph: Graph | None = None,
        limit: int | None = None,
    ) -> Answers:
        """As ``contract.passes.Observe`` says."""
        if graph is None:
            observer = self.as_handed_over()
        elif graph is self.float_graph:
            if self.float_observer is None or self.float_observer.graph is not graph:
                self.float_observer = self._observer(graph)
            observer = self.float_observer
        else:
            observer = self._observer(graph)
        return observer.ask(requests, limit)

    def walk(self, graph: Graph, limit: int) -> Walk:
        """Means of a graph's layers one after another, over the first ``limit`` samples."""
        if self.samples is None:
            raise refuse_without_samples("it")
        samples = FirstSamples(self.samples, limit)
        if self.batch is None:
            session = Session(self.reference, threads=self.threads)
            self.batch = largest_batch(session, samples, BATCH)
        return Walk(graph, samples, self.threads, self.batch)

    def context(self) -> Context:
        """What a pass gets to see."""
        self.as_handed_over()
        return Context(
            target=self.target,
            shapes=self.shapes(),
            observe=self.observe,
            walk=self.walk,
            rng=np.random.default_rng(self.seed),
            reference=self.float_graph or self.graph,
            calibrated=self.samples is not None,
            training=self._training(),
        )

    def _training(self) -> Training | None:
        samples = self.train or self.samples
        if samples is None:
            return None
        return Training(
            samples,
            self.teacher or self.reference,
            self.seed,
            self.threads,
            self.device,
            self.checkpoints,
            self.progress,
        )


def _unknown(graph: Graph, known: shapes.Shapes) -> bool:
    """Whether inference left the rank of a tensor of the main graph open."""
    names = (name for node in graph.main.nodes for name in node.output if name)
    infos = (known.get(name) for name in names)
    return any(info is None or info.shape is None for info in infos)
