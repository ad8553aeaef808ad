"""Two models side by side: size, operations, answers and latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphopt.commands.comparing import Pair, with_answers, with_latency, with_sizes
from graphopt.commands.sources import Model, load, path_of
from graphopt.data import open_data
from graphopt.data.samples import Samples
from graphopt.data.source import Source
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import DataError, ModelError, Need, NoKernel, NotRun
from graphopt.graph.graph import Graph
from graphopt.graph.ports import compatible, described, fixed_batch
from graphopt.progress import Progress
from graphopt.report.findings import Comparison
from graphopt.run.proof import describe
from graphopt.runtime.trial import Trial

__all__ = ["compare"]


def compare(
    a: Model,
    b: Model,
    data: Source | None = None,
    *,
    images: Mapping[str, Any] | None = None,
    threads: int = 0,
    seed: int = 0,
    ops_libraries: Sequence[str | Path] = (),
    trial: bool = True,
    progress: Progress | None = None,
) -> Comparison:
    """Run two models on the same samples and set B against A.

    Args:
        a: The model that is right by definition, in any form that ``graphopt.optimize`` takes.
        b: The model to judge.
        data: Samples, in any form that ``graphopt.optimize`` takes; random feeds without.
        images: Preprocessing of a folder of images.
        threads: Threads of onnxruntime; 0 for all cores.
        seed: Seed of random feeds.
        ops_libraries: Shared libraries with kernels of the models' own operators; their code runs.
        trial: Whether both are first loaded and run in a process of their own.
        progress: Told what is going on, how far it is and how far it goes.

    Returns:
        ``quality`` is None, and ``note`` says why, where random feeds do not fit the models.

    Raises:
        UsageError: What was given is no model.
        ModelError: A model cannot be loaded or run, or they have different inputs or outputs.
        DataError: The samples do not fit.
    """
    with Trial(trial) as attempt:
        first, second = load(a, ops_libraries), load(b, ops_libraries)
        _check_alike(first, second)
        judge = second if fixed_batch(second) else first
        samples: Samples = SyntheticSamples(judge, seed=seed)
        if data is not None:
            samples = open_data(data, judge, images)
        pair = Pair(
            (first, second), (path_of(a), path_of(b)), judge, samples, data is not None, threads
        )
        found = _unrun(pair, f"random, seed {seed}" if data is None else f"{samples.count} samples")
        try:
            found = with_answers(with_sizes(found, pair, attempt), pair, progress)
        except (DataError, NoKernel, NotRun) as err:
            return _without_run(found, err, given=data is not None)
    return with_latency(found, pair, progress)


def _unrun(pair: Pair, feeds: str) -> Comparison:
    """What is known of both before they are run."""
    a, b = (describe(*each) for each in zip(pair.graphs, pair.paths, strict=True))
    return Comparison(
        a=a,
        b=b,
        quality=None,
        cosine={},
        latency_ratio=None,
        latency_spread=None,
        latency_clock=None,
        feeds=feeds,
        note="" if pair.given else "random feeds; figures that count need samples",
        needs=() if pair.given else (Need.DATA,),
    )


def _without_run(
    found: Comparison, err: DataError | NoKernel | NotRun, *, given: bool
) -> Comparison:
    """What is left where the models could not be run, on feeds of ours or for want of a kernel.

    Raises:
        DataError: The samples are the user's.
        NotRun: The same.
    """
    if given and not isinstance(err, NoKernel):
        raise err
    if isinstance(err, NoKernel) or err.needs:
        return replace(found, note=f"not run: {err}", needs=err.needs)
    note = f"not run: random feeds do not fit these models, or none do ({err}); samples would tell"
    return replace(found, note=note)


def _check_alike(a: Graph, b: Graph) -> None:
    """Refuse models that cannot take the same feeds or give other outputs.

    Raises:
        ModelError: They differ; the message says in what.
    """
    ports = [{value.name: value for value in graph.required_inputs} for graph in (a, b)]
    for kind, first, second in (
        ("inputs", set(ports[0]), set(ports[1])),
        ("outputs", set(a.main.outputs), set(b.main.outputs)),
    ):
        if first != second:
            only = [", ".join(sorted(side)) or "none" for side in (first - second, second - first)]
            raise ModelError(
                f"the models have different {kind} and cannot be compared: "
                f"only in A: {only[0]}; only in B: {only[1]}"
            )
    for name, value in ports[0].items():
        words = [described(port) for port in (value, ports[1][name])]
        if not compatible(value, ports[1][name]):
            raise ModelError(f"input {name!r} is {words[0]} in A and {words[1]} in B")
