"""How large the tensors of a model are in one run, and what that run multiplies."""

from __future__ import annotations

from dataclasses import replace

from graphopt.data.samples import Feeds
from graphopt.facts import shapes
from graphopt.facts.macs import MacCount, count_macs
from graphopt.facts.sized import Sized, free_sizes, single, sized
from graphopt.graph.graph import Graph
from graphopt.graph.ports import described
from graphopt.runtime.trace import trace

__all__ = ["sized_run"]


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


def _open_inputs(graph: Graph) -> str:
    """The inputs of which more than the first axis is of free size, in words."""
    known = single(graph)
    return ", ".join(
        f"{value.name} {described(value)}"
        for value in graph.required_inputs
        if value.name not in known and value.type.HasField("tensor_type")
    )
