"""The judge of a run: how close a graph's answers are to the input model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from graphopt.data.first import FirstSamples
from graphopt.data.samples import Feeds, Samples
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import DataError, Need, NoKernel, NotRun
from graphopt.facts.built import built
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.observe.request import Rows
from graphopt.observe.run import with_rows
from graphopt.run.measuring import run_bytes
from graphopt.run.quality import Caveat, Quality
from graphopt.run.recall import Recall
from graphopt.run.rolling import STEPS, Rollout, roll, rollouts
from graphopt.run.shared_session import SharedSession
from graphopt.run.tally import Tally
from graphopt.runtime.session import Session, thread_count
from graphopt.runtime.trial import Trial
from graphopt.tasks.task import Task

__all__ = [
    "Judge",
    "Sample",
    "choose_judge",
    "most_bytes",
    "too_large",
]

_HELD_BYTES = 64 << 20
_HELD_SHARE = 8
"""Of a memory limit; the answers of the model that is compared take as much again."""
_SAMPLES = 32
_ROUNDED = 16
"""Samples that show what rounding costs."""
_BEYOND = 1 << 60
_RUN_FACTOR = 3
"""onnxruntime holds the weights as read, as initializers and packed for its kernels."""
_SESSION_BYTES = 64 << 20
"""onnxruntime takes some of that for itself, whatever the model."""
_TRAINED_ON = Caveat(
    "measured on samples that were trained on; figures that count need others", (Need.EVALUATION,)
)
_RANDOM = Caveat("measured on random feeds; figures that count need samples", (Need.SAMPLES,))


@dataclass(frozen=True)
class Sample:
    """One feed with what the reference answered; ``rows`` says what of it counts."""

    feeds: Feeds
    rows: Rows
    answers: dict[str, Array]


class Judge:
    """A few samples with the reference's answers, held in memory, to measure graphs against.

    Args:
        reference: The model that is right by definition.
        samples: Where feeds come from.
        source: ``eval``, ``calib``, ``train`` or ``random``, for the record.
        threads: Threads of the sessions.
        limit: Most samples to hold; fewer are held where their outputs are large.
        memory: Bytes that they may take with their answers; None for 64 MB.

    Raises:
        DataError: The samples do not fit.
        ModelError: onnxruntime cannot run the reference on them.
    """

    def __init__(
        self,
        reference: Graph,
        samples: Samples,
        source: str,
        *,
        threads: int = 0,
        limit: int = _SAMPLES,
        memory: int | None = None,
    ) -> None:
        self.reference, self.source, self.threads = reference, source, threads
        self.tasks: Mapping[str, Task] = {}
        self.rollouts = list[Rollout]()
        self.outputs = reference.main.outputs
        self._session = SharedSession(reference, threads)
        self._rounding: Quality | None = None
        self.stands_in_for = ""  # see ``Session``
        most = _HELD_BYTES if memory is None else min(memory, _HELD_BYTES)
        self.recall = Recall(most)
        """What it answered to the samples that results are measured on."""
        self.samples = self._hold(FirstSamples(samples, limit), most)

    @property
    def session(self) -> Session:
        """A session of the reference; held unless its weights are large."""
        return self._session.get()

    def _hold(self, samples: Samples, most: int) -> list[Sample]:
        session = self.session
        self.stands_in_for = session.stands_in_for
        held: list[Sample] = []
        total = 0
        for feeds, rows in with_rows(self.reference, samples):
            answers = session.run(feeds)
            held.append(Sample(feeds, rows, answers))
            total += sum(a.nbytes for a in answers.values() if isinstance(a, np.ndarray))
            total += sum(a.nbytes for a in feeds.values())
            if total > most:
                break
        return held

    def reading(self, tasks: Mapping[str, Task]) -> Judge:
        """A judge by the same samples who knows what each output means."""
        knowing = copy(self)
        knowing.tasks = tasks
        feeds, rows = [each.feeds for each in self.samples], [each.rows for each in self.samples]
        if any(task.fed_to for task in tasks.values()):
            knowing.rollouts = rollouts(self.session, tasks, feeds, rows)
        return knowing

    def first(self, count: int) -> Judge:
        """A judge by at most ``count`` of these samples."""
        few = copy(self)
        few.samples = self.samples[:count]
        return few

    def run(self, session: Session) -> list[dict[str, Array]]:
        """A model's answers to the held samples, then those of each step of the rollouts.

        Raises:
            ModelError: onnxruntime cannot run it.
        """
        answers = [session.run(sample.feeds) for sample in self.samples]
        for rollout in self.rollouts:
            answers += roll(session, rollout)
        return answers

    @property
    def rounding(self) -> Quality:
        """How close the reference comes to itself where onnxruntime rounds at other places.

        Its graph optimizations fuse operators and leave out roundings: with and without them the
        answers differ by what rounding costs this model.
        """
        if self._rounding is None:
            few = self.first(_ROUNDED)
            few.rollouts = []
            plain = Session(self.reference, threads=self.threads, level="off")
            self._rounding = few.compare(few.run(plain))
        return self._rounding

    @property
    def expected(self) -> list[dict[str, Array]]:
        """The answers of the reference, in the same order."""
        answers = [sample.answers for sample in self.samples]
        return answers + [each for rollout in self.rollouts for each in rollout.answers]

    def compare(
        self, answers: Sequence[dict[str, Array]], to: Sequence[dict[str, Array]] | None = None
    ) -> Quality:
        """Closeness of answers to the reference's, or to those of another run.

        Answers to the samples alone say nothing of the steps of rollouts.
        """
        expected = self.expected if to is None else to
        tally = Tally(self.outputs, self.tasks, telling=self.source != "random")
        count = len(self.samples)
        for sample, right, answer in zip(self.samples, expected, answers, strict=False):
            tally.add(right, answer, sample.rows)
        for rollout in self.rollouts if len(answers) > count else ():
            steps = slice(count, count := count + STEPS)
            tally.add_steps(rollout.rows, expected[steps], answers[steps])
        return tally.quality(self.source)


def choose_judge(
    reference: Graph,
    offered: Sequence[tuple[Samples | None, str]],
    *,
    trial: Trial,
    memory_limit: int | None,
    threads: int,
    seed: int,
) -> tuple[Judge | None, Caveat]:
    """The judge, and what it cannot prove; None where nothing can be run.

    Args:
        reference: The model that is right by definition.
        offered: Samples with their source, the best ones first; random feeds without any.
        trial: Loads and runs the reference before this process does.
        memory_limit: Bytes that running the model may take; None for 3 GB or half of what is free.
        threads: Threads of the sessions.
        seed: Of random feeds.

    Raises:
        ModelError: The model is wrong in itself, or onnxruntime cannot run it on the samples
            given.
    """
    if fault := too_large(reference, memory_limit):
        return None, Caveat(f"not run and not compared: {fault}", (Need.MEMORY_LIMIT,))
    given = next(((each, source) for each, source in offered if each is not None), None)
    try:
        samples, source = given or (
            SyntheticSamples(reference, seed=seed, memory_limit=memory_limit),
            "random",
        )
        first = next(iter(samples.feeds(batch=1)))[0]
        trial.run(
            reference,
            first,
            threads=thread_count(threads),
            most=most_bytes(reference, memory_limit),
        )
        memory = None if memory_limit is None else memory_limit // _HELD_SHARE
        judge = Judge(reference, samples, source, threads=threads, memory=memory)
    except NoKernel as err:
        return None, Caveat(f"not run: {err}", err.needs)
    except (DataError, NotRun) as err:
        if isinstance(err, NotRun) and Need.MEMORY_LIMIT in err.needs:
            return None, Caveat(f"not run and not compared: {err}", err.needs)
        if given is not None:
            raise
        if err.needs:
            return None, Caveat(f"not run: {err}", err.needs)
        note = (
            f"not run: random feeds do not fit this model, or none do ({err}); samples would tell"
        )
        return None, Caveat(note, (Need.CALIBRATION,))
    return judge, {"random": _RANDOM, "train": _TRAINED_ON}.get(source, Caveat())


def most_bytes(model: Graph, memory_limit: int | None) -> int:
    """Bytes that a process may take to load and run a model; without a limit its weights fit."""
    allowed = run_bytes(memory_limit)
    if memory_limit is None:
        allowed = max(allowed, _RUN_FACTOR * model.weight_bytes)
    return allowed + _SESSION_BYTES


def too_large(model: Graph, memory_limit: int | None) -> str:
    """How much running a model takes where that is more than it may; else empty.

    Args:
        model: Nothing of it is run.
        memory_limit: See ``run_bytes``.
    """
    needed, allowed = _RUN_FACTOR * model.weight_bytes, run_bytes(memory_limit)
    if needed > allowed:
        return f"about {needed / 1e6:.3g} MB where {allowed / 1e6:.3g} MB are allowed"
    beside = built(model, infer(model))
    if needed + beside.total > _BEYOND:
        return f"beside its weights {beside.node!r} builds more than any machine holds"
    if needed + beside.total > allowed:
        return (
            f"beside its weights it builds about {beside.total / 1e9:.3g} GB "
            f"({beside.part / 1e9:.3g} GB by {beside.node!r}) "
            f"where {max(0, allowed - needed) / 1e9:.3g} GB are allowed"
        )
    return ""
