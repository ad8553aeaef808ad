"""Latency in paired, interleaved bursts, so that the machine's moods fall on all models alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.graph.tensors import Array
from graphopt.runtime.session import Session

__all__ = ["Ratio", "Times", "measure", "ratio"]

_BURST_SECONDS = 0.02
_MOST_RUNS = 1000
_LEAST_ROUNDS = 5
_STEADY_ROUNDS = 10
_WARM_UPS = 3
_WARM_SECONDS = 1.0


@dataclass(frozen=True)
class Times:
    """Time of one run of a model, in milliseconds.

    Attributes:
        bursts_ms: Mean of each burst, in order; bursts of the same index ran side by side.
    """

    bursts_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The middle of the bursts."""
        return float(np.median(self.bursts_ms))

    @property
    def low_ms(self) -> float:
        """The 10th percentile of the bursts."""
        return float(np.percentile(self.bursts_ms, 10))

    @property
    def high_ms(self) -> float:
        """The 90th percentile of the bursts."""
        return float(np.percentile(self.bursts_ms, 90))


@dataclass(frozen=True)
class Ratio:
    """How one model's time stands to another's.

    Attributes:
        median: Median of the ratios of paired bursts; below 1 is faster.
        spread: How far the median may be off: the distance from the 10th to the 90th percentile
            of these ratios over the square root of their number, which is two standard errors of
            the median of a normal distribution. A difference below it is no difference.
    """

    median: float
    spread: float


def measure(
    sessions: Sequence[Session],
    feeds: Sequence[Mapping[str, Array]],
    *,
    rounds: int = 30,
    seconds: float = 10.0,
    settled: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Times]:
    """Run the sessions in turns and time them.

    Each round runs a burst of every session, in an order that changes from round to round. A
    burst repeats short runs until it is long enough for the clock.

    Args:
        sessions: What to time, all of the same number of threads.
        feeds: One feed for each session.
        rounds: Bursts of each session.
        seconds: No further round starts after this time, once there were five.
        settled: Spread of the ratios to the first session at which no further round starts, once
            there were ten; 0 for all rounds.
        progress: Called with the rounds done and asked.

    Raises:
        ModelError: A run fails.
    """
    runs = [_runs(session, feed) for session, feed in zip(sessions, feeds, strict=True)]
    bursts: list[list[float]] = [[] for _ in sessions]
    shuffle = np.random.default_rng(0)
    order: list[int] = []
    started = time.perf_counter()
    for number in range(rounds):
        if number >= _LEAST_ROUNDS and time.perf_counter() - started > seconds:
            break
        if settled and number >= _STEADY_ROUNDS and _spread(bursts) <= settled:
            break
        # A shuffled order and then its reverse: no model always follows the same other one.
        order = order[::-1] if number % 2 else list(shuffle.permutation(len(sessions)))
        for index in order:
            bursts[index].append(_burst(sessions[index], feeds[index], runs[index]))
        if progress is not None:
            progress(number + 1, rounds)
    return [Times(tuple(burst)) for burst in bursts]


def _spread(bursts: Sequence[Sequence[float]]) -> float:
    """The largest spread of the ratios to the first session so far."""
    base, *others = (Times(tuple(each)) for each in bursts)
    return max((ratio(times, base).spread for times in others), default=0.0)


def _runs(session: Session, feed: Mapping[str, Array]) -> int:
    """Warm up; gives how many runs make a burst."""
    fastest = math.inf
    started = time.perf_counter()
    for _ in range(_WARM_UPS):
        fastest = min(fastest, _burst(session, feed, 1))
        if time.perf_counter() - started > _WARM_SECONDS:
            break
    return max(1, min(_MOST_RUNS, round(_BURST_SECONDS * 1000 / max(fastest, 1e-3))))


def _burst(session: Session, feed: Mapping[str, Array], runs: int) -> float:
    """Milliseconds of one run, over ``runs`` runs in a row."""
    begun = time.perf_counter()
    for _ in range(runs):
        session.run(feed)
    return (time.perf_counter() - begun) * 1000 / runs


def ratio(times: Times, base: Times) -> Ratio:
    """How ``times`` stands to ``base``, which were measured side by side.

    Raises:
        ValueError: They have different numbers of bursts, so they were not.
    """
    paired = [a / b for a, b in zip(times.bursts_ms, base.bursts_ms, strict=True)]
    low, middle, high = np.percentile(paired, [10, 50, 90])
    return Ratio(float(middle), float(high - low) / len(paired) ** 0.5)
