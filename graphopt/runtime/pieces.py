"""Small models side by side: which is faster, told once for all that are alike but for values."""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.errors import ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.graph.weightless import weightless
from graphopt.runtime.bursts import measure, runner
from graphopt.runtime.latency import timed
from graphopt.runtime.session import Session, serialized, thread_count

__all__ = ["ratio_of_times"]

_ROUNDS = (3, 8)
"""At first, and where that leaves in doubt who is faster; twice that where the clocks disagree."""
_DOUBT = (0.8, 1.25)

_known: dict[tuple[bytes, bytes, int], float] = {}


def ratio_of_times(base: Graph, other: Graph, threads: int = 0) -> float:
    """Time of one run of a model over that of another, which takes the same feeds.

    What was timed before in this process is not timed again: names and values do not count.

    Args:
        base: Its inputs have fixed sizes.
        other: The same inputs.
        threads: Of the sessions; 0 for all cores.

    Returns:
        Below 1 where ``other`` is faster; infinity where onnxruntime does not run it.
    """
    key = _like(base), _like(other), thread_count(threads)
    if key not in _known:
        _known[key] = _measured(base, other, threads)
    return _known[key]


def _measured(base: Graph, other: Graph, threads: int) -> float:
    feeds = _feeds(base)
    try:
        runners = [
            runner(graph, feeds, Session(graph, threads=threads), threads=threads, light=False)
            for graph in (base, other)
        ]
        ratio = math.inf
        for rounds in _ROUNDS:
            ratio = timed(measure(runners, rounds=rounds))[1].ratio.median
            if not _DOUBT[0] < ratio < _DOUBT[1]:
                break
    except ModelError:
        return math.inf
    return ratio


def _feeds(graph: Graph) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    feeds = {}
    for value in graph.required_inputs:
        tensor = value.type.tensor_type
        shape = [dim.dim_value for dim in tensor.shape.dim]
        kind = tensor_dtype_to_np_dtype(tensor.elem_type)
        feeds[value.name] = rng.standard_normal(shape).astype(kind)
    return feeds


def _like(graph: Graph) -> bytes:
    """The model without names and values."""
    model = weightless(graph, keep_dims=True)
    names: dict[str, str] = {}

    def called(name: str) -> str:
        return names.setdefault(name, str(len(names))) if name else name

    plain = ModelProto(opset_import=model.opset_import, ir_version=model.ir_version)
    for value in model.graph.input:
        plain.graph.input.add(name=called(value.name), type=value.type)
    for node in model.graph.node:
        made = plain.graph.node.add()
        made.CopyFrom(node)
        made.name = ""
        made.ClearField("doc_string")
        made.ClearField("metadata_props")
        made.input[:], made.output[:] = map(called, node.input), map(called, node.output)
    for tensor in sorted(model.graph.initializer, key=lambda each: called(each.name)):
        kept = TensorProto(name=called(tensor.name), data_type=tensor.data_type, dims=tensor.dims)
        plain.graph.initializer.append(kept)
    for value in model.graph.output:
        plain.graph.output.add(name=called(value.name))
    return serialized(plain)
