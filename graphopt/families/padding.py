"""Which positions of the samples are nothing but padding, where an input of the model says so."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from graphopt.contract.passes import Context, RowMoments, SampledRows, Values
from graphopt.errors import DataError, LimitError
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph
from graphopt.numerics.moments import Moments, MomentSums
from graphopt.numerics.spread import lowest_ranked

__all__ = ["Padding", "RealRows"]

_ALL = 1 << 30
"""More samples than there are."""


class Padding:
    """Tokens that only fill up a batch, told by an attention mask.

    A mask is an input ``(batch, time)`` whose name says so, and which is 0 or 1 at each position.

    Args:
        graph: The model; its inputs are looked at.
        context: Has the samples.
        shapes: Of the tensors in one run on the first sample.
        samples: How many samples count.

    Attributes:
        share: Of the positions that are real; 1 without a mask.
    """

    def __init__(self, graph: Graph, context: Context, shapes: Shapes, samples: int) -> None:
        self.share = 1.0
        self._shapes = shapes
        self._mask: NDArray[np.bool_] | None = None
        self._positions = 0
        for value in graph.required_inputs:
            size = shapes.static_shape(value.name)
            if "mask" not in value.name.lower() or size is None or len(size) != 2:
                continue
            try:
                arrays = context.observe([request := Values(value.name)], limit=samples)[request]
            except LimitError:
                continue
            flat = np.concatenate([each.reshape(-1) for each in arrays])
            if np.isin(flat, (0, 1)).all() and 0 < flat.sum() < len(flat):
                self._mask, self._positions = flat != 0, math.prod(size)
                self.share = float(self._mask.mean())
                return

    def real(self, tensor: str, axis: int, count: int) -> NDArray[np.bool_] | None:
        """Which of ``count`` sampled rows of a tensor are none of padding; None for all of them.

        Args:
            tensor: The tensor; one position of the mask has to be one of its rows.
            axis: Of its channels.
            count: Rows that were sampled.
        """
        size = self._shapes.static_shape(tensor)
        if self._mask is None or size is None:
            return None
        if math.prod(size) // max(size[axis], 1) != self._positions:
            return None
        return self._mask[lowest_ranked(len(self._mask), count)]


class RealRows:
    """Moments of rows, without those of padding.

    Args:
        graph: The model; left as it is while it is asked.
        context: Has the samples.
        shapes: Of the tensors in one run on the first sample.
        samples: The most to look at.
    """

    def __init__(self, graph: Graph, context: Context, shapes: Shapes, samples: int = _ALL) -> None:
        self._scope = graph.main
        self._walk = context.walk(graph, samples)
        self._padding = Padding(graph, context, shapes, self._walk.count)

    def moments(self, requests: Iterable[RowMoments]) -> dict[RowMoments, Moments]:
        """Those of the requests whose rows are the positions of the mask."""
        found: dict[RowMoments, Moments] = {}
        if self._padding.share == 1:
            return found
        for asked in sorted(set(requests), key=self._place):
            most = round(asked.most / self._padding.share)
            if asked.window is not None or self._padding.real(asked.tensor, asked.axis, 1) is None:
                continue
            try:
                rows = self._walk.ask(SampledRows(asked.tensor, asked.axis, most=most))
            except DataError:  # who asks for them all is told why
                continue
            real = self._padding.real(asked.tensor, asked.axis, len(rows))
            sums = MomentSums(*rows.shape[1:])
            sums.add(rows if real is None or not real.any() else rows[real])
            result = sums.result()
            if np.isfinite(result.covariance).all():
                found[asked] = result
        return found

    def _place(self, asked: RowMoments) -> int:
        """Where in the graph the tensor is computed."""
        maker = self._scope.producer(asked.tensor)
        return -1 if maker is None else self._scope.index.rank(maker)
