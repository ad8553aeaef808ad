"""Options, samples and small nets that tests of the training share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt.contract.training import TrainOptions
from graphopt.data import open_data
from graphopt.data.staged import StagedSamples, staged
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.testing import model_from_text

Nets = Callable[..., Graph]
HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


@pytest.fixture
def options() -> Callable[..., TrainOptions]:
    """Options of a short training of a small net, some of them changed."""

    def make(**changed: Any) -> TrainOptions:
        plain: dict[str, Any] = {
            "steps": 12,
            "batch": 8,
            "lr": 1e-2,
            "warmup": 0.0,
            "held_out": 0.25,
            "evaluations": 4,
            "precision": "float32",
        }
        return TrainOptions(**{**plain, **changed})

    return make


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., StagedSamples]:
    """Samples laid out for a graph."""

    def make(graph: Graph, source: Any) -> StagedSamples:
        folder: Path = tmp_path_factory.mktemp("staged")
        with staged(open_data(source, graph), folder) as data:
            return data

    return make


@pytest.fixture
def convnet() -> Nets:
    """A net of a Conv, BatchNormalization and a Gemm; weights by seed."""

    def make(seed: int = 0, batch: str = "N", classes: int = 5) -> Graph:
        text = f"""{HEAD} net (float[{batch},2,6,6] x) => (float[{batch},{classes}] y) {{
          c = Conv <pads = [1,1,1,1]> (x, W)
          n = BatchNormalization (c, scale, shift, mean, variance)
          r = Relu (n)
          g = GlobalAveragePool (r)
          f = Flatten (g)
          y = Gemm (f, V, b)
        }}"""
        four = dict.fromkeys(("scale", "shift", "mean", "variance"), (4,))
        shapes = {"W": (4, 2, 3, 3), **four, "V": (4, classes), "b": (classes,)}
        return io.load(model_from_text(text, shapes, seed=seed))

    return make


@pytest.fixture
def pictures() -> Callable[[int], Array]:
    """So many small pictures."""

    def make(count: int, seed: int = 0) -> Array:
        return np.random.default_rng(seed).normal(size=(count, 2, 6, 6)).astype(np.float32)

    return make
