"""Small models in the forms that targets get, and what desktop onnxruntime answers to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from graphopt.contract.spec import parse_passes
from graphopt.data import SyntheticSamples
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, apply_passes, model_from_text

CLEAN = "freeze-initializers,fuse-batchnorm,"
NETWORK = """<ir_version: 8, opset_import: ["" : 17]>
network (float[N,8,12,12] x) => (float[N,10] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, dense)       b = Relu (a)
  c = Conv <pads = [1, 1, 1, 1], group = 64> (b, deep)  d = Relu (c)
  e = Conv (d, point)                             f = Relu (e)
  g = Add (b, f)  h = GlobalAveragePool (g)       i = Flatten (h)
  y = MatMul (i, last)
}"""
WEIGHTS = {
    "dense": (64, 8, 3, 3),
    "deep": (64, 1, 3, 3),
    "point": (64, 64, 1, 1),
    "last": (64, 10),
}


@dataclass(frozen=True)
class Made:
    """A model made for a target, with feeds and desktop onnxruntime's answers to them."""

    graph: Graph
    feeds: list[dict[str, Array]]
    answers: list[dict[str, Array]]

    @property
    def data(self) -> bytes:
        """The file."""
        return bytes(self.graph.to_model().SerializeToString())


@pytest.fixture(scope="session")
def made_for() -> Callable[[str, str, str], Made]:
    """Makes a model for a target: name of the network, of the target, and the passes."""

    def make(name: str, target: str, spec: str) -> Made:
        model = model_from_text(NETWORK, WEIGHTS) if name == "network" else MODELS[name]()
        passes = parse_passes(CLEAN + spec)
        graph, records = apply_passes(passes, model, target=target, samples=16)
        assert records[-1].status == "done", records[-1].reason
        feeds = [each for each, _ in SyntheticSamples(graph, 6, seed=1).feeds()]
        session = Session(graph, threads=1)
        return Made(graph, feeds, [session.run(each) for each in feeds])

    return make


def sqnr_db(right: list[dict[str, Any]], told: list[dict[str, Any]], name: str) -> float:
    """Closeness of an output over all feeds, dB."""
    expected = np.concatenate([np.asarray(each[name], np.float64).ravel() for each in right])
    actual = np.concatenate([np.asarray(each[name], np.float64).ravel() for each in told])
    noise = float(((expected - actual) ** 2).sum())
    return float(10 * np.log10((expected**2).sum() / max(noise, 1e-30)))
