"""Bursts of runs, paired and interleaved, so that the machine's moods fall on all models alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.latency import Clock, Readings, moody, trusted, unsteady
from graphopt.runtime.session import Session, thread_count

__all__ = ["Clocks", "Runner", "measure", "runner"]

_BURST_SECONDS = 0.02
_MOST_RUNS = 1000
_LEAST_ROUNDS = 5
_STEADY_ROUNDS = 10
_MOODS = 0.08
"""A calm machine repeats itself to that; else steady ratios may be those of a bad moment."""
_WARM_UPS = 3
_WARM_SECONDS = 1.0


@dataclass(frozen=True)
class Clocks:
    """What is read, in seconds: wall time, and processor time of the calling thread or of all."""

    wall: Callable[[], float] = time.perf_counter
    thread: Callable[[], float] = time.thread_time
    process: Callable[[], float] = time.process_time


@dataclass(frozen=True)
class Runner:
    """A model to time, with its feed.

    Attributes:
        session: Its wall time is taken.
        feeds: One feed.
        alone: A session of one thread of the same model, whose processor time is taken; None to
            take that of ``session``.
        threads: Of the session whose processor time is taken. One works in the calling thread;
            of several the time is summed, which waiting for each other makes less steady.
    """

    session: Session
    feeds: Mapping[str, Array]
    alone: Session | None = None
    threads: int = 1

    def burst(self, clocks: Clocks, runs: tuple[int, int]) -> tuple[float, float]:
        """Milliseconds of one run by the wall and by the processor.

        Args:
            clocks: What to read.
            runs: Runs in a row of either session.
        """
        wall, processor = self._burst(self.session, clocks, runs[0])
        if self.alone is not None:
            _, processor = self._burst(self.alone, clocks, runs[1])
        return wall, processor

    def warm(self, clocks: Clocks) -> tuple[int, int]:
        """Warm up; gives how many runs of either session make a burst."""
        by_wall, by_processor = self._fastest(self.session, clocks)
        if self.alone is None:  # a busy machine stretches the wall's time, not the processor's
            return (_runs(by_processor),) * 2
        return _runs(by_wall), _runs(self._fastest(self.alone, clocks)[1])

    def _fastest(self, session: Session, clocks: Clocks) -> tuple[float, float]:
        """Milliseconds of the fastest run by either clock."""
        fastest = (math.inf, math.inf)
        started = clocks.wall()
        for _ in range(_WARM_UPS):
            burst = self._burst(session, clocks, 1)
            fastest = (min(fastest[0], burst[0]), min(fastest[1], burst[1]))
            if clocks.wall() - started > _WARM_SECONDS:
                break
        return fastest

    def _burst(self, session: Session, clocks: Clocks, runs: int) -> tuple[float, float]:
        worked = clocks.thread if self.threads == 1 else clocks.process
        wall, processor = clocks.wall(), worked()
        for _ in range(runs):
            session.run(self.feeds)
        wall, processor = clocks.wall() - wall, worked() - processor
        return wall * 1000 / runs, processor * 1000 / runs


def runner(
    graph: Graph,
    feeds: Mapping[str, Array],
    session: Session,
    *,
    threads: int,
    light: bool = True,
) -> Runner:
    """A model with the sessions to time it by.

    Args:
        graph: The model.
        feeds: One feed.
        session: A session of it.
        threads: Threads of that session; 0 for all cores.
        light: Whether a second session, of one thread, may be held beside.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    several = thread_count(threads)
    if several == 1 or not light:
        return Runner(session, feeds, None, several)
    return Runner(session, feeds, Session(graph, threads=1))


def _runs(run_ms: float) -> int:
    """How many runs make a burst that is long enough for the clock."""
    return max(1, min(_MOST_RUNS, round(_BURST_SECONDS * 1000 / max(run_ms, 1e-3))))


def measure(
    runners: Sequence[Runner],
    *,
    rounds: int = 30,
    seconds: float = 10.0,
    settled: float = 0.0,
    clock: Clock | None = None,
    progress: Callable[[int, int], None] | None = None,
    clocks: Clocks = Clocks(),
) -> list[Readings]:
    """Run models in turns and time them by wall and processor.

    Each round runs a burst of every model, in an order that changes from round to round. A burst
    repeats short runs until it is long enough for the clock. Where the clocks disagree about a
    ratio to the first model, or one is unsteady, up to as many rounds again follow.

    Args:
        runners: What to time.
        rounds: Bursts of each model.
        seconds: No further round starts after this time, once there were five.
        settled: Scatter of the ratios at which no further round starts, once there were ten on a
            calm machine; 0 for all rounds.
        clock: The only clock that is asked whether there were enough rounds; None for both.
        progress: Called with the rounds done and asked.
        clocks: What to read.

    Raises:
        ModelError: A run fails.
    """
    runs = [each.warm(clocks) for each in runners]
    bursts: list[list[tuple[float, float]]] = [[] for _ in runners]
    shuffle = np.random.default_rng(0)
    order: list[int] = []
    started = clocks.wall()
    for number in range(2 * rounds):
        if number >= _LEAST_ROUNDS and clocks.wall() - started > seconds:
            break
        if number and _enough(number, [Readings.of(b) for b in bursts], rounds, settled, clock):
            break
        # A shuffled order and then its reverse: no model always follows the same other one.
        order = order[::-1] if number % 2 else list(shuffle.permutation(len(runners)))
        for index in order:
            bursts[index].append(runners[index].burst(clocks, runs[index]))
        if progress is not None:
            progress(number + 1, rounds if number < rounds else 2 * rounds)
    return [Readings.of(burst) for burst in bursts]


def _enough(
    number: int, found: Sequence[Readings], rounds: int, settled: float, clock: Clock | None
) -> bool:
    """Whether no further round is needed."""
    doubted = clock is None and trusted(found) != "wall"
    if number >= (2 * rounds if doubted else rounds):
        return True
    if settled <= 0 or number < (rounds if doubted else _STEADY_ROUNDS):
        return False
    if number < rounds and moody([each.processor for each in found]) > _MOODS:
        return False
    clocks: tuple[Clock, ...] = ("processor",) if doubted else ("wall", "processor")
    return all(unsteady(found, each) <= settled for each in (clocks if clock is None else (clock,)))
