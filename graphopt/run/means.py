"""What a run measures with: it never changes while passes run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from graphopt.contract.settings import Limits, Machine
from graphopt.contract.training import Training
from graphopt.data.samples import Samples
from graphopt.deadline import Deadline
from graphopt.graph.graph import Graph
from graphopt.observe.walk import BATCH
from graphopt.progress import Progress
from graphopt.run.judge import Judge
from graphopt.run.metrics import TaskMetric
from graphopt.run.sizing import joined_samples
from graphopt.runtime.batches import largest_batch
from graphopt.runtime.session import Session
from graphopt.targets import Target
from graphopt.tasks.task import Task

__all__ = ["Means"]


@dataclass(frozen=True, kw_only=True)
class Means:
    """What a run measures with.

    Attributes:
        reference: What results are measured against: the input model or its teacher.
        target: What the runtime fuses.
        machine: Threads, seed, memory and device.
        limits: What a result must hold.
        judge: Holds the reference's answers; None where the model cannot be run within the
            memory limit.
        calibration: Samples that passes observe; None without.
        training: Samples to train on; None for the calibration samples.
        evaluation: Samples that judge the result; None without.
        held_out: Calibration samples that no pass observes and that judge instead; None where
            there are others, or too few.
        metric: What is measured on ``evaluation`` with its labels; None without.
        teacher: The model that training aims at; None for the reference.
        label_notes: What should be told of the labels.
        tasks: What each output of the reference means; empty before it was run.
        checkpoints: Folder for the state of a training; None for nowhere.
        deadline: When nothing new is started, and what goes in steps ends.
        progress: Told what is going on, how far it is and how far it goes.
    """

    reference: Graph
    target: Target
    machine: Machine = field(default_factory=Machine)
    limits: Limits = field(default_factory=Limits)
    judge: Judge | None = None
    calibration: Samples | None = None
    training: Samples | None = None
    evaluation: Samples | None = None
    held_out: Samples | None = None
    metric: TaskMetric | None = None
    label_notes: Sequence[str] = ()
    teacher: Graph | None = None
    tasks: Mapping[str, Task] = field(default_factory=dict)
    checkpoints: Path | None = None
    deadline: Deadline = field(default_factory=Deadline)
    progress: Progress | None = None

    @property
    def threads(self) -> int:
        """Threads of every session; 0 for all cores."""
        return self.machine.threads

    def memory(self, share: int) -> int | None:
        """One part in ``share`` of the memory limit; None without one.

        What a run holds beyond plain inference has its part each, so that all together keep it:
        the judge's samples and answers, statistics under way and kept ones, walks, layer figures.
        """
        limit = self.machine.memory_limit
        return None if limit is None else limit // share

    @property
    def seed(self) -> int:
        """Seed of the passes' random numbers."""
        return self.machine.seed or 0

    def tell(self, what: str, done: int, total: int) -> None:
        """Tell the progress, where somebody listens."""
        if self.progress is not None:
            self.progress(what, done, total)

    @cached_property
    def batch(self) -> int:
        """Calibration samples that one feed may join; found by running the reference."""
        assert self.calibration is not None
        limit, threads = self.machine.memory_limit, self.threads
        most = joined_samples(self.reference, self.calibration, BATCH, limit, threads)
        return largest_batch(self.reference_session, self.calibration, most)

    @property
    def reference_session(self) -> Session:
        """A session of the reference with its own outputs."""
        if self.judge is not None:
            return self.judge.session
        return Session(self.reference, threads=self.threads)

    def lessons(self) -> Training | None:
        """What the run offers to a pass that trains; None without samples."""
        samples = self.training or self.calibration
        if samples is None:
            return None
        return Training(
            samples,
            self.teacher or self.reference,
            self.seed,
            self.threads,
            self.machine.device,
            self.checkpoints,
            self.progress,
            {name: task for name, task in self.tasks.items() if task.given},
            self.deadline,
        )
