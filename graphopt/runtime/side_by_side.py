"""Models side by side: those that do the same work are not timed, the others are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphopt.errors import ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.bursts import measure, runner
from graphopt.runtime.latency import SAME, Timed, timed
from graphopt.runtime.session import Session
from graphopt.runtime.work import Work, maybe_alike

__all__ = ["side_by_side"]


def side_by_side(
    graphs: Sequence[Graph],
    sessions: Sequence[Session],
    feeds: Sequence[Mapping[str, Array]],
    *,
    threads: int,
    light: bool,
    rounds: int = 30,
    settled: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Timed], int]:
    """Times of models against the first of them, and the number of bursts that they are from.

    Args:
        graphs: The models.
        sessions: A session of each.
        feeds: One feed for each; models with other feeds than the first are timed in any case.
        threads: Threads of the sessions; 0 for all cores.
        light: Whether a second session of each, of one thread, may be held.
        rounds: See ``measure``.
        settled: See ``measure``.
        progress: See ``measure``.

    Raises:
        ModelError: A model cannot be run.
    """
    same, more = _compared(graphs, feeds)
    timing = [index for index in range(len(graphs)) if index not in same]
    runners = [
        runner(graphs[i], feeds[i], sessions[i], threads=threads, light=light) for i in timing
    ]
    found = measure(runners, rounds=rounds, settled=settled, progress=progress)
    told = dict(zip(timing, timed(found), strict=True))
    told.update((index, told[index].never_faster()) for index in more)
    told.update((index, Timed(told[0].times, SAME)) for index in same)
    return [told[index] for index in range(len(graphs))], len(found[0].wall.bursts_ms)


def _compared(
    graphs: Sequence[Graph], feeds: Sequence[Mapping[str, Array]]
) -> tuple[set[int], set[int]]:
    """Which graphs do the same work as the first, and which do all of it and more.

    Feeds of the same types and shapes are asked for.
    """
    base, *others = graphs
    asked = [
        index
        for index, graph in enumerate(others, start=1)
        if _kinds(feeds[index]) == _kinds(feeds[0]) and maybe_alike(graph, base)
    ]
    try:
        first = Work(base) if asked else None
        works = {index: Work(graphs[index]) for index in asked}
    except ModelError:  # onnxruntime runs models that it cannot save; they are timed
        return set(), set()
    if first is None:
        return set(), set()
    same = {index for index, work in works.items() if work.equals(first)}
    return same, {index for index, work in works.items() if work.contains(first)} - same


def _kinds(feeds: Mapping[str, Array]) -> dict[str, tuple[object, ...]]:
    """Type and shape of each input."""
    return {name: (value.dtype, value.shape) for name, value in feeds.items()}
