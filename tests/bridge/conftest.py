"""A graph in torch against the same graph in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from graphopt.bridge import GraphModule
from graphopt.bridge.tensors import from_torch, to_tensor
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.session import Session

Compare = Callable[[Graph, GraphModule, Mapping[str, Array]], None]
MOST = 1e-4
"""Largest difference relative to the largest value, what the bridge promises."""


@pytest.fixture
def same_as_onnxruntime() -> Compare:
    """Asserts that a module gives what onnxruntime gives, on the first run and on the next."""

    def compare(graph: Graph, module: GraphModule, feeds: Mapping[str, Array]) -> None:
        expected = Session(graph, threads=1).run(feeds)
        given = {name: to_tensor(value) for name, value in feeds.items()}
        for found in (module(given), module(given)):
            assert list(found) == list(expected)
            for name, value in expected.items():
                assert found[name].shape == value.shape
                largest = max(float(np.abs(value).max()), 1e-9)
                assert np.abs(from_torch(found[name]) - value).max() <= MOST * largest

    return compare
