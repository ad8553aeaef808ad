"""Latency of models under onnxruntime, measured in turns so that the machine's moods cancel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphopt.commands.measuring import try_out
from graphopt.commands.sources import Model, load, path_of
from graphopt.contract.settings import MOST_ROUNDS
from graphopt.data.samples import Feeds
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import UsageError, quoted
from graphopt.progress import Progress
from graphopt.report.findings import Benchmark, Timing
from graphopt.run.room import room_beside
from graphopt.run.sizing import sized_run
from graphopt.runtime.options import PROVIDER
from graphopt.runtime.session import Session, thread_count
from graphopt.runtime.side_by_side import side_by_side
from graphopt.runtime.trial import Trial

__all__ = ["bench"]


def bench(
    *models: Model,
    threads: int = 0,
    rounds: int = 30,
    seed: int = 0,
    ops_libraries: Sequence[str | Path] = (),
    trial: bool = True,
    progress: Progress | None = None,
) -> Benchmark:
    """Measure the latency of models on one random sample each, in interleaved bursts.

    Args:
        models: In any form that ``graphopt.optimize`` takes; inputs may differ.
        threads: Threads of onnxruntime; 0 for all cores.
        rounds: Bursts of each model; slow models get fewer, at least five, and up to twice as many
            are taken where wall time and processor time disagree.
        seed: Seed of the random sample.
        ops_libraries: Shared libraries with kernels of the models' own operators; their code runs.
        trial: Whether each model is first loaded and run in a process of its own.
        progress: Told what is going on, how far it is and how far it goes.

    Raises:
        UsageError: No model, something else, or a number of rounds out of bounds.
        ModelError: A model cannot be loaded or run.
        DataError: Random feeds cannot be made for a model.
    """
    if not models:
        raise UsageError("give at least one model to measure")
    if not 1 <= rounds <= MOST_ROUNDS:
        raise UsageError(f"rounds={quoted(rounds)}: give 1 to {MOST_ROUNDS}")
    with Trial(trial) as attempt:
        graphs = [load(model, ops_libraries) for model in models]
        feeds = [next(SyntheticSamples(graph, seed=seed).feeds())[0] for graph in graphs]
        for graph, feed in zip(graphs, feeds, strict=True):
            try_out(attempt, graph, feed, threads, as_is=True)
    sessions = [Session(graph, threads=threads, as_is=True) for graph in graphs]
    macs = sized_run(graphs[0], feeds[0], threads=threads).macs.total
    found, bursts = side_by_side(
        graphs,
        sessions,
        feeds,
        threads=threads,
        light=room_beside(graphs, macs, None),
        rounds=rounds,
        progress=None if progress is None else lambda n, of: progress("measure", n, of),
    )
    timings = []
    for model, each in zip(models, found, strict=True):
        path = path_of(model)
        timings.append(
            Timing(
                None if path is None else str(path),
                each.times.median_ms,
                each.times.low_ms,
                each.times.high_ms,
                each.ratio.median,
                each.ratio.spread,
                each.ratio.clock,
            )
        )
    return Benchmark(
        provider=PROVIDER,
        threads=thread_count(threads),
        rounds=bursts,
        feeds=describe_feeds(feeds[0], seed),
        timings=timings,
    )


def describe_feeds(feeds: Feeds, seed: int) -> str:
    """What was fed, in words: names with shapes and types."""
    parts = (f"{name} {value.dtype}{list(value.shape)}" for name, value in feeds.items())
    return f"random, seed {seed}: {', '.join(parts)}"
