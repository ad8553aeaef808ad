"""The streaming run: answers against numpy, whatever the shapes, opsets, batches and groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import parser

from graphopt.data.samples import Feeds
from graphopt.errors import DataError, LimitError, ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.numerics import ranges
from graphopt.observe.run import observe, plan_for
from graphopt.observe.statistics import ChannelAbsMax, ChannelMean, HistogramOf, MinMax, Statistic
from graphopt.runtime.session import Session


@dataclass
class Stub:
    """Feeds in memory, each with its number of real rows."""

    held: Sequence[tuple[Feeds, int]]
    labels: Array | None = None

    @property
    def count(self) -> int:
        return sum(real for _, real in self.held)

    def feeds(self, batch: int = 1, limit: int | None = None) -> Iterator[tuple[Feeds, int]]:
        yield from self.held[:limit]


def graph(text: str) -> Graph:
    return Graph(parser.parse_model(text))


def images(count: int, *shape: int, seed: int = 0) -> Stub:
    rng = np.random.default_rng(seed)
    return Stub([({"x": rng.normal(size=shape).astype(np.float32)}, 1) for _ in range(count)])


CONV = """
<ir_version: 8, opset_import: ["": {opset}]>
g (float[{batch}, 3, 8, 8] x, float[4, 3, 3, 3] w) => (float[{batch}, 4, 6, 6] y) {{
    c = Conv(x, w)
    r = Relu(c)
    y = Neg(r)
}}
"""


def conv(opset: int = 13, batch: int | str = 1) -> Graph:
    made = graph(CONV.format(opset=opset, batch=batch))
    rng = np.random.default_rng(1)
    made.main.initializers["w"] = made.store("w", rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    return made


def true_values(made: Graph, samples: Stub, tensor: str) -> list[Array]:
    """What the tensor holds on each feed, real rows only."""
    session = Session(made, outputs=[tensor])
    return [session.run(feeds)[tensor][:real] for feeds, real in samples.held]


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, 17, 18, 21])
@pytest.mark.parametrize("batch", [1, "N"])
def test_answers_are_those_of_numpy(opset: int, batch: int | str) -> None:
    made, samples = conv(opset, batch), images(5, 1, 3, 8, 8)
    for tensor in ("x", "c", "r", "y"):
        values = np.concatenate(true_values(made, samples, tensor))
        requests: list[Statistic] = [
            MinMax(tensor),
            HistogramOf(tensor, bins=64),
            ChannelMean(tensor),
            ChannelAbsMax(tensor, axis=-3),
        ]
        found = observe(made, requests, samples)
        assert list(found) == requests
        assert found[requests[0]] == (values.min(), values.max())
        histogram = found[requests[1]]
        assert (histogram.low, histogram.high) == (values.min(), values.max())
        assert histogram.total == values.size  # small tensors are looked at in full
        np.testing.assert_allclose(found[requests[2]], values.mean(axis=(0, 2, 3)), atol=1e-6)
        np.testing.assert_array_equal(found[requests[3]], np.abs(values).max(axis=(0, 2, 3)))
