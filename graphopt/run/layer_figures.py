"""Where the bytes, the time and the noise of a model are, layer by layer, before and after.

A layer is a node of the main graph with a constant weight. Passes may replace it by several nodes,
so it is followed by its result: the nodes of either model that lie between the tensors which both
models have. Layers in bodies are left out; onnxruntime hands their tensors to nobody.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from onnx import NodeProto

from graphopt.contract.kept import Kept
from graphopt.data.samples import Feeds
from graphopt.errors import ModelError
from graphopt.facts.layers import Layer, layer
from graphopt.facts.operators import find
from graphopt.facts.quantized import quantizers
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op, label
from graphopt.graph.tensors import Array
from graphopt.numerics.sqnr import ErrorSums
from graphopt.observe.sizes import shapes_on
from graphopt.run.record import LayerRecord
from graphopt.run.shared_session import HELD_WEIGHTS_BYTES
from graphopt.runtime.profile import node_times
from graphopt.runtime.session import Session

__all__ = ["Match", "bytes_of_layers", "describe", "match", "times_of_layers"]

_GROUP_BYTES = 64 << 20
_ELEMENT_BYTES = 8
_TURNS, _RUNS = 3, 3
_MOST_VALUES = 1 << 26
"""Of so many the sums of errors take seconds; large results tell enough in one sample."""


@dataclass(frozen=True)
class Match:
    """One layer of the input model and what became of it.

    Attributes:
        node: The layer in the input model.
        tensor: Its result, or that of what follows it, where both models have it; else None.
        observed: The tensor of the result model that stands for ``tensor``: behind its Q and DQ
            where it has them, because onnxruntime uses integer kernels only if nobody reads the
            tensor in between.
        before: Nodes of the input model that compute ``tensor``.
        after: Nodes of the result model that do.
    """

    node: NodeProto
    tensor: str | None
    observed: str | None
    before: list[NodeProto]
    after: list[NodeProto]


def describe(
    reference: Graph,
    result: Graph,
    samples: Sequence[Feeds],
    *,
    threads: int = 0,
    memory: int | None = None,
    kept: Kept | None = None,
) -> tuple[list[LayerRecord], list[str]]:
    """The layers in figures, in the order of the input model.

    Args:
        reference: The input model.
        result: What the passes made of it.
        samples: Feeds to measure the noise with, of large tensors fewer; the first is timed.
        threads: Threads of onnxruntime; 0 for all cores.
        memory: Bytes that tensors of both models may take together; None for 64 MB.
        kept: Which channels of the input model's tensors are left; the noise is of these.

    Returns:
        The records, and a sentence on each figure that could not be had.
    """
    layers, messages = match(reference, result), list[str]()
    times: list[Mapping[str, float]] = [{}, {}]
    noise: Mapping[str, float | None] = {}
    try:
        times = _times((reference, result), samples[0], threads)
    except ModelError as err:
        messages.append(f"no times of single layers: {err}")
    try:
        noise = _noise(
            reference, result, layers, samples, threads, memory or _GROUP_BYTES, kept or {}
        )
    except ModelError as err:
        messages.append(f"no SQNR of single layers: {err}")
    records = [
        LayerRecord(
            node=label(each.node),
            op_type=each.node.op_type,
            bytes_before=_constant_bytes(reference.main, each.before),
            bytes_after=_constant_bytes(result.main, each.after),
            ms_before=_time(times[0], each.before),
            ms_after=_time(times[1], each.after),
            sqnr_db=None if each.tensor is None else noise.get(each.tensor),
        )
        for each in layers
    ]
    return records, messages


def bytes_of_layers(reference: Graph, result: Graph) -> dict[str, int]:
    """What each layer takes in another form of the model, by its label.

    Args:
        reference: The model that the labels are of.
        result: What passes made of it.
    """
    return {
        label(each.node): _constant_bytes(result.main, each.after or each.before)
        for each in match(reference, result)
    }


def times_of_layers(
    reference: Graph, results: Sequence[Graph], feeds: Feeds, threads: int
) -> list[dict[str, float]]:
    """Milliseconds of each layer in other forms of the model, by its label.

    Args:
        reference: The model that the labels are of.
        results: What passes made of it; they are timed in turns.
        feeds: What is run.
        threads: Threads of onnxruntime; 0 for all cores.

    Raises:
        ModelError: A model cannot be run.
    """
    times = _times(results, feeds, threads)
    found = []
    for result, seen in zip(results, times, strict=True):
        known = ((each, _time(seen, each.after)) for each in match(reference, result))
        found.append({label(each.node): ms for each, ms in known if ms is not None})
    return found


def _times(graphs: Sequence[Graph], feeds: Feeds, threads: int) -> list[Mapping[str, float]]:
    """Milliseconds of each node of each graph: the median of profiles that were taken in turns.

    The runs of one profile may all lie within a moment at which other programs run. Large models
    are profiled once: to load them takes longer than to run them.

    Raises:
        ModelError: A graph cannot be run.
    """
    large = any(graph.weight_bytes > HELD_WEIGHTS_BYTES for graph in graphs)
    turns = [
        [node_times(graph, feeds, threads=threads, runs=_RUNS) for graph in graphs]
        for _ in range(1 if large else _TURNS)
    ]
    return [
        {name: median(each[name] for each in of_graph if name in each) for name in of_graph[0]}
        for of_graph in zip(*turns, strict=True)
    ]


def match(reference: Graph, result: Graph) -> list[Match]:
    """The layers of the input model with the nodes of either model that compute their results.

    No node is counted twice: one that several layers share belongs to the first of them.
    """
    live = _live(reference)
    taken: tuple[set[int], set[int]] = (set(), set())
    layers = []
    for node in reference.main.nodes:
        if not isinstance(layer(reference.main, node), Layer):
            continue
        chain = list(_chain(reference.main, node))
        tensor, observed = _meeting(result.main, chain)
        if tensor is None or observed is None:
            taken[0].add(id(node))
            layers.append(Match(node, None, None, [node], []))
            continue
        own = set(chain[: chain.index(tensor) + 1])
        before, after = (
            _between(graph.main, tensor, live, own, gone)
            for graph, gone in zip((reference, result), taken, strict=True)
        )
        layers.append(Match(node, tensor, observed, before, after))
    return layers


def _live(graph: Graph) -> set[str]:
    """Tensors of the main graph that depend on the inputs."""
    live = {value.name for value in graph.required_inputs}
    for node in graph.main.nodes:
        if live.intersection(node.input) or graph.main.children(node):
            live.update(name for name in node.output if name)
    return live


def _chain(scope: Scope, node: NodeProto) -> Iterator[str]:
    """The result of a layer, then those of the nodes behind it that may be merged into it."""
    name = node.output[0]
    while True:
        yield name
        uses = scope.uses(name)
        if len(uses) != 1 or scope.is_output(name) or uses[0].scope is not scope:
            return
        follower = uses[0].node
        others = [read for read in follower.input if read and read != name]
        row = find(follower)
        merged = row is not None and row.fuses
        if not merged or any(scope.constant(read) is None for read in others):
            return
        name = follower.output[0]


def _meeting(scope: Scope, chain: Sequence[str]) -> tuple[str | None, str | None]:
    """The first tensor of the chain that is quantized here, else the first that is here at all."""
    present = [name for name in chain if scope.producer(name) is not None]
    for name in present:
        for quantizer in quantizers(scope, name):
            for use in scope.uses(quantizer.output[0]):
                if is_op(use.node, "DequantizeLinear") and use.scope is scope:
                    return name, use.node.output[0]
    return (present[0], present[0]) if present else (None, None)


def _between(
    scope: Scope, tensor: str, live: set[str], own: set[str], taken: set[int]
) -> list[NodeProto]:
    """Nodes that compute ``tensor`` from constants and what is ``live``, but for its ``own``.

    They go into ``taken``.
    """
    found, names = [], [tensor]
    while names:
        name = names.pop()
        node = None if name in live and name not in own else scope.producer(name)
        if node is None or id(node) in taken:
            continue
        taken.add(id(node))
        found.append(node)
        names.extend(read for read in node.input if read)
    return found


def _constant_bytes(scope: Scope, nodes: Sequence[NodeProto]) -> int:
    """Bytes of the constants that these nodes read, each once."""
    sizes: dict[str, int] = {}
    for node in nodes:
        for name in node.input:
            constant = scope.constant(name) if name else None
            if constant is not None:
                sizes[constant.origin] = constant.nbytes
    return sum(sizes.values())


def _time(times: Mapping[str, float], nodes: Sequence[NodeProto]) -> float | None:
    """Time of these nodes together; None where the profile knows none of them."""
    known = [times[label(node)] for node in nodes if label(node) in times]
    return sum(known) if known else None


def _noise(
    reference: Graph,
    result: Graph,
    layers: Sequence[Match],
    samples: Sequence[Feeds],
    threads: int,
    memory: int,
    kept: Kept,
) -> dict[str, float | None]:
    """SQNR of each layer's tensor, in dB, over the samples; fewer where the tensors are large."""
    pairs = {x.tensor: x.observed for x in layers if x.tensor is not None and x.observed}
    found: dict[str, float | None] = {}
    shapes = shapes_on(reference, list(pairs), samples[0], threads)
    values = sum(math.prod(shapes.static_shape(name) or ()) for name in pairs)
    samples = samples[: max(1, _MOST_VALUES // max(1, values))]
    for names in _groups(list(pairs), shapes, memory):
        group = {name: pairs[name] for name in names}
        found |= _noise_of(reference, result, group, samples, threads, kept)
    return found


def _noise_of(
    reference: Graph,
    result: Graph,
    pairs: Mapping[str, str],
    samples: Sequence[Feeds],
    threads: int,
    kept: Kept,
) -> dict[str, float | None]:
    """SQNR of some tensors, by two sessions that are gone before those of others are opened."""
    sums = {name: ErrorSums() for name in pairs}
    first = Session(reference, threads=threads, outputs=list(pairs))
    second = Session(result, threads=threads, outputs=list(pairs.values()))
    for feeds in samples:
        right, answer = first.run(feeds), second.run(feeds)
        for name, observed in pairs.items():
            wanted = _left(name, right[name], kept)
            if wanted.shape == answer[observed].shape:
                sums[name].add(wanted, answer[observed])
            else:
                sums[name].fail()
    return {name: total.sqnr_db for name, total in sums.items()}


def _left(name: str, values: Array, kept: Kept) -> Array:
    """Those of a tensor's values whose channels are left."""
    for axis in range(values.ndim):
        positions = kept.get((name, axis))
        if positions is not None:
            values = values.take(positions, axis)
    return values


def _groups(names: Sequence[str], shapes: Shapes, most: int) -> Iterator[list[str]]:
    """Tensors in groups that fit the memory set aside for them; one of unknown size goes alone."""
    group: list[str] = []
    total = 0
    for name in names:
        shape = shapes.static_shape(name)
        needed = most if shape is None else _ELEMENT_BYTES * math.prod(shape)
        if group and total + needed > most:
            yield group
            group, total = [], 0
        group.append(name)
        total += needed
    if group:
        yield group
