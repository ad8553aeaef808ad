"""Where the time goes: milliseconds of each node, from onnxruntime's own profile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import NodeProto

from graphopt.errors import ModelError
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import label
from graphopt.graph.tensors import Array
from graphopt.runtime.optimized import number_nodes, numbered
from graphopt.runtime.scratch import scratch_folder
from graphopt.runtime.session import Session

__all__ = ["node_times"]

_KERNEL = "_kernel_time"
_MOST_EVENTS = 40_000  # each is some 300 bytes of JSON
_BLOCKED = "_nchwc"  # onnxruntime's blocked layout; such a node is called after its output


def node_times(
    graph: Graph,
    feeds: Mapping[str, Array],
    *,
    threads: int = 0,
    runs: int = 5,
    quantile: float = 0.5,
) -> dict[str, float]:
    """Time that each node takes in one run, in milliseconds, by its label.

    A node that onnxruntime fused into another one has no time of its own and is left out, and so
    are changes of layout that stem from no node. Nodes of bodies count all their turns.

    Args:
        graph: The model; not modified.
        feeds: One feed.
        threads: Threads of the run; 0 for all cores.
        runs: Runs after one that warms up; fewer of a very large graph.
        quantile: Of the runs: the median, or a lower one where others disturb.

    Raises:
        ModelError: The model cannot be loaded or run, or the profile cannot be read.
    """
    nodes = [node for scope in graph.scopes() for node in scope.nodes]
    runs = max(1, min(runs, _MOST_EVENTS // max(len(nodes), 1)))
    with scratch_folder() as folder:
        session = Session(number_nodes(graph), threads=threads, profile=folder / "run")
        for _ in range(runs + 1):
            session.run(feeds)
        events = _events(session.end_profiling())
    turns = sorted((e.start, e.end) for e in events if e.name == "model_run")[1:]
    times: dict[str, list[float]] = {}
    for event in events:
        node = _node_of(event, graph.main, nodes) if event.name.endswith(_KERNEL) else None
        turn = next((i for i, (low, high) in enumerate(turns) if low <= event.start < high), None)
        if node is not None and turn is not None:
            sums = times.setdefault(label(node), [0.0] * len(turns))
            sums[turn] += (event.end - event.start) / 1000
    return {name: float(np.quantile(sums, quantile)) for name, sums in times.items()}


@dataclass(frozen=True)
class _Event:
    """A line of the profile; times in microseconds since the session began."""

    name: str
    op_type: str
    start: float
    end: float


def _events(path: Path) -> list[_Event]:
    try:
        lines = json.loads(path.read_text("utf-8"))
        return [
            _Event(
                str(line["name"]),
                str(line.get("args", {}).get("op_name", "")),
                float(line["ts"]),
                float(line["ts"]) + float(line["dur"]),
            )
            for line in lines
            if "dur" in line
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ModelError(f"onnxruntime's profile cannot be read: {err}") from err


def _node_of(event: _Event, main: Scope, nodes: Sequence[NodeProto]) -> NodeProto | None:
    """The node of the given graph that a kernel stems from."""
    name = event.name.removesuffix(_KERNEL)
    number = numbered(name)
    if number is not None:
        return nodes[number] if number < len(nodes) else None
    if not name.endswith(_BLOCKED):
        return None
    node = main.producer(name.removesuffix(_BLOCKED))
    while node is not None and node.op_type != event.op_type:
        node = main.producer(node.input[0]) if node.input else None
    return node
