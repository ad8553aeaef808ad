"""One streaming run of the model that answers everybody's questions about its tensors."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.data.samples import Feeds, Samples
from graphopt.errors import DataError, ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.observe.answers import Rows, answer_to
from graphopt.observe.extract import extract
from graphopt.observe.plan import Plan, make_plan
from graphopt.observe.reductions import (
    Sampled,
    Tap,
    add_taps,
    compute,
    samples_inside,
    start_input,
)
from graphopt.observe.sizes import Sizes, sizes_of
from graphopt.observe.statistics import Statistic
from graphopt.progress import Progress
from graphopt.runtime.session import Session

__all__ = ["observe", "plan_for", "with_rows"]

_VALUES_IN_ALL = 1 << 18
_VALUES_PER_RUN = (2048, 16384)

logger = logging.getLogger(__name__)


def observe(
    graph: Graph,
    requests: Iterable[Statistic],
    samples: Samples,
    *,
    memory_limit: int | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> dict[Statistic, Any]:
    """Statistics of tensors of the main graph over all samples.

    Tensors are reduced inside a copy of the graph that holds only what they depend on, so that no
    activation is copied out. The ends of a histogram are exact; its counts come from positions
    spread over the tensor, at a random start in each run, all of them where the tensor is small.

    Integers and booleans are observed as float32. A tensor that is empty on all samples has the
    range ``(0, 0)``, an empty histogram, zero means and zero maxima. Observing a tensor of a
    quantized graph that lies between a layer and its QuantizeLinear keeps onnxruntime from
    running that layer on integers; the values are those of exact arithmetic then.

    Args:
        graph: Left as it is.
        requests: What to find out; each tensor is an input, a node output or an initializer.
        samples: Fed one at a time, or by the model's fixed batch; rows that only fill up the last
            batch do not count.
        memory_limit: Bytes that observation may take beyond plain inference; kept by splitting
            the requests into groups, each with its own run over the samples.
        threads: Threads of onnxruntime; 0 for all cores.
        progress: Told after each run of the model.

    Raises:
        DataError: There is no sample, or a tensor holds NaN, infinite values or no numbers.
        ModelError: A tensor does not exist, or onnxruntime cannot run the model.
        LimitError: One tensor alone is too large for the memory limit.
    """
    asked = list(dict.fromkeys(requests))
    if not asked:
        return {}
    sizes, plan = _prepare(graph, asked, samples, memory_limit, threads)
    logger.info("%s", plan)
    results: dict[Statistic, Any] = {}
    for index, group in enumerate(plan.groups):
        results |= _Group(graph, group, sizes, samples, threads).run(
            progress, index * samples.count, len(plan.groups) * samples.count
        )
    return {request: results[request] for request in asked}


def plan_for(
    graph: Graph,
    requests: Iterable[Statistic],
    samples: Samples,
    *,
    memory_limit: int | None = None,
    threads: int = 0,
) -> Plan:
    """What ``observe`` would do with the same arguments: its groups and its memory bound.

    Raises:
        DataError, ModelError, LimitError: As ``observe``.
    """
    return _prepare(graph, list(dict.fromkeys(requests)), samples, memory_limit, threads)[1]


def _prepare(
    graph: Graph,
    requests: Sequence[Statistic],
    samples: Samples,
    memory_limit: int | None,
    threads: int,
) -> tuple[Sizes, Plan]:
    """Sizes of the tensors on the first sample, and the plan; requests in order of computation."""
    first = next(samples.feeds(limit=1), None)
    if first is None:
        raise DataError("there is no sample to observe the model on")
    scope = graph.main
    places = dict.fromkeys((*scope.inputs, *scope.initializers), -1)
    places |= {name: i for i, node in enumerate(scope.nodes) for name in node.output if name}
    for request in requests:
        if request.tensor not in places:
            raise ModelError(f"the main graph has no tensor {request.tensor!r} to observe")
    sizes = sizes_of(graph, {request.tensor for request in requests}, first[0], threads)
    ordered = sorted(requests, key=lambda request: places[request.tensor])
    return sizes, make_plan(ordered, sizes.shapes, memory_limit)


@dataclass
class _Group:
    """Requests that are answered by one run over the samples."""

    graph: Graph
    requests: Sequence[Statistic]
    sizes: Sizes
    samples: Samples
    threads: int

    def run(self, progress: Progress | None, done: int, total: int) -> dict[Statistic, Any]:
        shapes = self.sizes.shapes
        per_run = _values_per_run(self.samples.count)
        answers = {r: answer_to(r, shapes[r.tensor], per_run) for r in self.requests}
        taps = list(dict.fromkeys(tap for answer in answers.values() for tap in answer.taps))
        runner = _Runner(self.graph, taps, self.sizes, self.threads)
        rng = np.random.default_rng(0)
        for feeds, rows in with_rows(self.graph, self.samples):
            found = runner.run(feeds, rng)
            for answer in answers.values():
                answer.take(found, rows)
            done += rows.real
            if progress is not None:
                progress("observing", done, total)
        return {request: answer.result() for request, answer in answers.items()}


def _values_per_run(count: int) -> int:
    """How many values of a tensor one run adds to its histogram."""
    least, most = _VALUES_PER_RUN
    return min(max(_VALUES_IN_ALL // max(count, 1), least), most)


class _Runner:
    """Computes taps for one feed: inside the graph or, for inputs and constants, from the array."""

    def __init__(self, graph: Graph, taps: Sequence[Tap], sizes: Sizes, threads: int) -> None:
        scope = graph.main
        self.steps = {tap.step for tap in taps if isinstance(tap, Sampled)}
        inside = [tap for tap in taps if scope.producer(tap.tensor) is not None]
        self.outside = [tap for tap in taps if scope.producer(tap.tensor) is None]
        self.constants: dict[str, Array] = {
            tap.tensor: graph.read(scope.initializers[tap.tensor])
            for tap in self.outside
            if tap.tensor in scope.initializers
        }
        part = extract(graph, {tap.tensor for tap in inside})
        self.names = add_taps(part, inside, sizes.floats)
        self.sampled_inside = samples_inside(part)
        self.inputs = set(part.main.inputs)
        self.session = (
            Session(part, threads=threads, outputs=list(self.names.values())) if inside else None
        )

    def run(self, feeds: Feeds, rng: np.random.Generator) -> dict[Tap, Array]:
        starts = {step: int(rng.integers(step)) for step in sorted(self.steps)}
        found = {
            tap: compute(
                feeds[tap.tensor] if tap.tensor in feeds else self.constants[tap.tensor],
                tap,
                starts,
            )
            for tap in self.outside
        }
        if self.session is not None:
            fed = {name: value for name, value in feeds.items() if name in self.inputs}
            for step, start in starts.items():
                if start_input(step) in self.inputs:
                    fed[start_input(step)] = np.array([start], dtype=np.int64)
            values = self.session.run(fed)
            for tap, name in self.names.items():
                whole = isinstance(tap, Sampled) and not self.sampled_inside
                found[tap] = compute(values[name], tap, starts) if whole else values[name]
        return found


def with_rows(graph: Graph, samples: Samples, batch: int = 1) -> Iterator[tuple[Feeds, Rows]]:
    """Feeds of up to ``batch``, each with what is real of it; only a fixed batch is filled up.

    Beside inputs of another fixed first axis the first input counts; see ``graphopt.data.layout``.
    """
    batches = [
        max(0, value.type.tensor_type.shape.dim[0].dim_value)
        for value in graph.required_inputs
        if len(value.type.tensor_type.shape.dim)
    ]
    fixed = batches[0] if batches and 0 not in batches else 0
    for index, (feeds, real) in enumerate(samples.feeds(batch)):
        yield feeds, Rows(real, max(fixed, real), first=index == 0)
