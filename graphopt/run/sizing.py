"""How large the tensors of a model are in one run, and what that run multiplies."""

from __future__ import annotations

import math
from dataclasses import replace

from graphopt.data.samples import Feeds, Samples
from graphopt.facts import shapes
from graphopt.facts.macs import MacCount, count_macs
from graphopt.facts.sized import Sized, free_sizes, single, sized
from graphopt.graph.graph import Graph
from graphopt.graph.ports import described
from graphopt.runtime.trace import trace

__all__ = ["joined_samples", "sized_run"]

_ITEM_BYTES = 4
_LARGEST_BYTES = 16 << 20
"""Largest tensor of a feed that joins samples."""
_LARGEST_SHARE = 64
"""The same as a part of the memory limit: a run holds a handful of tensors, a search some runs."""


def sized_run(
    graph: Graph,
    feeds: Feeds | None = None,
    *,
    threads: int = 0,
    known: shapes.Shapes | None = None,
) -> Sized:
    """The model at the sizes of a feed; it is run where these do not follow from shapes alone.

    Args:
        graph: Left as it is.
        feeds: One feed; without, sizes are those declared, and a free first axis is a batch of one.
        threads: Threads of the run; 0 for all cores.
        known: Shapes of the graph, where somebody has them already.
    """
    fixed = not free_sizes(graph)
    if fixed and not graph.header.functions:
        known = known or shapes.infer(graph)
        found = Sized({}, known, count_macs(graph, known))
    elif feeds is None:
        found = sized(graph, {} if fixed else single(graph))
    else:
        found = sized(graph, {name: array.shape for name, array in feeds.items()})
    if found.macs.total is None and feeds is not None:
        seen = trace(graph, feeds, threads=threads)
        found = sized(graph, {name: array.shape for name, array in feeds.items()}, seen)
    if feeds is None and found.macs.total is None and (unsized := _open_inputs(graph)):
        found = replace(found, macs=MacCount(None, f"the file leaves sizes open: {unsized}"))
    return replace(found, inputs={}) if fixed else found


def joined_samples(
    graph: Graph, samples: Samples, wanted: int, memory_limit: int | None, threads: int = 0
) -> int:
    """Samples that one feed may join, so that what the model makes of them stays small.

    A few tensors lie in memory together, and a session keeps what its largest run took: with large
    pictures, eight of them at once take more than all else that a run holds.

    Args:
        graph: The model.
        samples: Where feeds come from; the first tells how large tensors are.
        wanted: Most samples to join.
        memory_limit: Bytes that a run may take beyond plain inference; None without a limit.
        threads: Threads of a run that tells the sizes where they do not follow from shapes.
    """
    first = next(samples.feeds(batch=1), None)
    if first is None:
        return wanted
    known = sized_run(graph, first[0], threads=threads).shapes
    made = (name for scope in graph.scopes() for node in scope.nodes for name in node.output)
    shapes = (known.static_shape(name) for name in made)
    largest = max((_ITEM_BYTES * math.prod(shape) for shape in shapes if shape), default=1)
    most = _LARGEST_BYTES
    if memory_limit is not None:
        most = min(most, memory_limit // _LARGEST_SHARE)
    return max(1, min(wanted, most // max(1, largest)))


def _open_inputs(graph: Graph) -> str:
    """The inputs of which more than the first axis is of free size, in words."""
    known = single(graph)
    return ", ".join(
        f"{value.name} {described(value)}"
        for value in graph.required_inputs
        if value.name not in known and value.type.HasField("tensor_type")
    )
