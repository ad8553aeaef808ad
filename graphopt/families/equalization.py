"""What the passes share that move the ranges of channels between layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from graphopt.analysis.channel_spans import Span, channel_spans
from graphopt.contract.passes import Changes, Context, Values
from graphopt.errors import LimitError
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.numerics.sqnr import sqnr_db

__all__ = ["AGREES_DB", "agreement_db", "usable_spans"]

Floats = NDArray[np.float64]

AGREES_DB = 100.0
"""Float32 rounding of weights that were scaled stays above this SQNR."""
_SAMPLES = 256
_MOST_BYTES = 1 << 26
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def usable_spans(
    graph: Graph,
    context: Context,
    changes: Changes,
    chosen: Callable[[NodeProto], bool],
    unfit: Callable[[Span], str],
) -> list[Span]:
    """The spans of a graph that a pass may change; the others are noted with their reason.

    Args:
        graph: The graph.
        context: Has the shapes of its tensors.
        changes: Takes the reasons.
        chosen: Whether a layer is; one that makes or takes channels and is not keeps its span.
        unfit: Why a span is not for the pass besides.
    """
    usable = []
    for span in channel_spans(graph, context.shapes):
        left = [each for each in (*span.makers, *span.takers) if not chosen(each.node)]
        reason = span.reason or unfit(span)
        if not reason and left:
            reason = f"{label(left[0].node)} is left alone by the options nodes and exclude"
        if reason:
            changes.skip(span.makers[0].node, reason)
        else:
            usable.append(span)
    return usable


def agreement_db(context: Context, before: Graph, after: Graph) -> float | None:
    """Least SQNR of the outputs of a graph against those of another, on the calibration samples.

    Returns:
        None where there are no samples, or no output that holds numbers; infinite where all are
        the same.
    """
    names = [
        value.name
        for value in before.main.proto.output
        if value.type.tensor_type.elem_type in _FLOATS
    ]
    limit = _SAMPLES if context.calibrated and names else 0
    while limit:
        try:
            return min(_levels(context, before, after, names, limit))
        except LimitError:
            limit //= 4
    return None


def _levels(
    context: Context, before: Graph, after: Graph, names: list[str], limit: int
) -> Iterator[float]:
    """SQNR of each output; infinite where it is the same."""
    requests = [Values(name, _MOST_BYTES) for name in names]
    right = context.observe(requests, before, limit)
    found = context.observe(requests, after, limit)
    for request in requests:
        value = sqnr_db(_flat(right[request]), _flat(found[request]))
        yield np.inf if value is None else value


def _flat(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([part.ravel() for part in parts])
