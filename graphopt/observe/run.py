"""One streaming run of the model that answers everybody's questions about its tensors."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.data.samples import Feeds, Samples
from graphopt.deadline import Deadline
from graphopt.errors import DataError, ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.observe.extract import extract
from graphopt.observe.plan import RunPlan, plan_runs
from graphopt.observe.request import Answers, Request, Rows
from graphopt.observe.sizes import Sizes, sizes_of
from graphopt.observe.taps import Tap, TapNodes, start_input
from graphopt.progress import Progress
from graphopt.runtime.session import Session

__all__ = ["draw", "observe", "values_per_run", "with_rows"]

_VALUES_IN_ALL = 1 << 18
_VALUES_PER_RUN = (2048, 16384)

logger = logging.getLogger(__name__)


def observe(
    graph: Graph,
    requests: Iterable[Request[Any]],
    samples: Samples,
    *,
    memory_limit: int | None = None,
    threads: int = 0,
    progress: Progress | None = None,
    deadline: Deadline | None = None,
) -> Answers:
    """Request[Any]s of tensors of the main graph over all samples.

    Tensors are reduced inside a copy of the graph that holds only what they depend on; only what
    has no form in the graph is copied out.

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
        deadline: Asked before each run of the model; None for no limit.

    Raises:
        DataError: There is no sample, or a tensor holds no numbers. Of one that holds NaN or
            infinite values it is raised when its answer is read.
        ModelError: A tensor does not exist, or onnxruntime cannot run the model.
        LimitError: One tensor alone is too large for the memory limit.
        PassError: The time is over.
    """
    asked = list(dict.fromkeys(requests))
    if not asked:
        return Answers({})
    sizes, plan = _prepare(graph, asked, samples, memory_limit, threads)
    logger.info("%s", plan)
    results: dict[Request[Any], Any] = {}
    for index, group in enumerate(plan.groups):
        results |= _Group(graph, group, sizes, samples, threads, deadline or Deadline()).run(
            progress, index * samples.count, len(plan.groups) * samples.count
        )
    return Answers({request: results[request] for request in asked})


def _prepare(
    graph: Graph,
    requests: Sequence[Request[Any]],
    samples: Samples,
    memory_limit: int | None,
    threads: int,
) -> tuple[Sizes, RunPlan]:
    """Sizes of the tensors on the first sample, and the plan; requests in order of computation."""
    first = next(samples.feeds(limit=1), None)
    if first is None:
        raise DataError("there is no sample to observe the model on")
    scope = graph.main
    sparse = (each.values.name for each in scope.proto.sparse_initializer)
    places = dict.fromkeys((*scope.inputs, *scope.initializers, *sparse), -1)
    places |= {name: i for i, node in enumerate(scope.nodes) for name in node.output if name}
    for request in requests:
        if request.tensor not in places:
            raise ModelError(f"the main graph has no tensor {request.tensor!r} to observe")
    sizes = sizes_of(graph, {request.tensor for request in requests}, first[0], threads)
    ordered = sorted(requests, key=lambda request: places[request.tensor])
    return sizes, plan_runs(ordered, sizes.shapes, memory_limit)


@dataclass
class _Group:
    """Requests that are answered by one run over the samples."""

    graph: Graph
    requests: Sequence[Request[Any]]
    sizes: Sizes
    samples: Samples
    threads: int
    deadline: Deadline

    def run(self, progress: Progress | None, done: int, total: int) -> dict[Request[Any], Any]:
        shapes = self.sizes.shapes
        per_run = values_per_run(self.samples.count)
        folders = {r: r.folder(shapes[r.tensor], per_run) for r in self.requests}
        taps = list(dict.fromkeys(tap for folder in folders.values() for tap in folder.taps))
        runner = _Runner(self.graph, taps, self.sizes, self.threads)
        rng = np.random.default_rng(0)
        failures: dict[Request[Any], DataError] = {}
        for feeds, rows in with_rows(self.graph, self.samples):
            self.deadline.check("before all samples were observed")
            arrays = runner.run(feeds, rng)
            for request, folder in folders.items():
                if request in failures:
                    continue
                try:
                    folder.take(arrays, rows)
                except DataError as err:
                    failures[request] = err
            done += rows.real
            if progress is not None:
                progress("observing", done, total)
        return {
            request: failures.get(request) or folder.result() for request, folder in folders.items()
        }


def values_per_run(count: int) -> int:
    """How many values of a tensor one run adds to its histogram."""
    least, most = _VALUES_PER_RUN
    return min(max(_VALUES_IN_ALL // max(count, 1), least), most)


def draw(taps: Iterable[Tap], rng: np.random.Generator) -> dict[int, int]:
    """The random integers that taps need for one run, by bound."""
    return {bound: int(rng.integers(bound)) for bound in sorted({b for t in taps for b in t.draws})}


class _Runner:
    """Computes taps for one feed: inside the graph where they have a form there."""

    def __init__(self, graph: Graph, taps: Sequence[Tap], sizes: Sizes, threads: int) -> None:
        main = graph.main
        held = {tap: main.constant(tap.tensor) for tap in taps if main.holds(tap.tensor)}
        self.taps = taps
        self.inside: dict[Tap, str] = {}
        self.whole: dict[Tap, str] = {}
        self.outside: dict[Tap, Array | None] = {
            tap: constant.values for tap, constant in held.items() if constant is not None
        }
        part = extract(graph, {tap.tensor for tap in taps})
        nodes = TapNodes(part, sizes.floats)
        for tap in taps:
            if tap in self.outside:
                continue
            if (name := tap.add(nodes)) is not None:
                self.inside[tap] = name
            elif graph.main.producer(tap.tensor) is None:
                self.outside[tap] = None
            else:
                self.whole[tap] = nodes.floats(tap.tensor)
        outputs = [*self.inside.values(), *self.whole.values()]
        self.session = Session(part, threads=threads, outputs=outputs) if outputs else None

    def run(self, feeds: Feeds, rng: np.random.Generator) -> dict[Tap, Array]:
        drawn = draw(self.taps, rng)
        arrays = {
            tap: tap.compute(feeds[tap.tensor] if values is None else values, drawn)
            for tap, values in self.outside.items()
        }
        if self.session is not None:
            starts = {
                start_input(bound): np.array([number], dtype=np.int64)
                for bound, number in drawn.items()
            }
            fed = {
                name: value
                for name, value in (feeds | starts).items()
                if name in self.session.inputs
            }
            values = self.session.run(fed)
            arrays |= {tap: values[name] for tap, name in self.inside.items()}
            arrays |= {tap: tap.compute(values[name], drawn) for tap, name in self.whole.items()}
        return arrays


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
        yield feeds, Rows(real, max(fixed, real), first=index == 0, total=samples.count)
