"""Training with normalizations that are only there meanwhile."""

import numpy as np
import onnx.parser
import pytest
import torch

from graphopt.bridge.trainee import trainee
from graphopt.data import open_data
from graphopt.errors import PassError
from graphopt.graph.graph import Graph
from graphopt.runtime.session import Session

_MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3, 6, 6] x) => (float[N, 5] y)
<float[4, 3, 3, 3] w, float[4] b, float[5, 4] v, float[5] c>
{
    a = Conv<pads = [1, 1, 1, 1]>(x, w, b)
    r = Relu(a)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    y = Gemm<transB = 1>(f, v, c)
}
"""


def _graph() -> Graph:
    graph = Graph(onnx.parser.parse_model(_MODEL))
    rng = np.random.default_rng(1)
    for name, shape in {"w": (4, 3, 3, 3), "b": (4,), "v": (5, 4), "c": (5,)}.items():
        graph.main.define(name, rng.normal(size=shape).astype(np.float32))
    return graph


_X = np.random.default_rng(5).normal(size=(24, 3, 6, 6)).astype(np.float32)


def test_inserted_normalizations_hold_the_moments_of_the_samples_and_change_nothing() -> None:
    graph = _graph()
    made = trainee(graph, lambda _: True, open_data({"x": _X}, graph), batch_norm="insert")
    expected = Session(graph, threads=1).run({"x": _X})["y"]
    with torch.no_grad():
        answers = made.module({"x": torch.from_numpy(_X)}, taps=[made.norms[0].data])
    np.testing.assert_allclose(answers["y"].numpy(), expected, rtol=1e-4, atol=1e-4)
    statistics = dict(made.module.statistics())
    data = answers[made.norms[0].data].numpy()
    np.testing.assert_allclose(
        statistics[made.norms[0].constants[2]].numpy(), data.mean((0, 2, 3)), rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(
        statistics[made.norms[0].constants[3]].numpy(), data.var((0, 2, 3)), rtol=1e-3
    )


def test_what_was_trained_is_folded_into_the_file() -> None:
    graph = _graph()
    nodes = [node.SerializeToString() for node in graph.main.nodes]
    made = trainee(graph, lambda _: True, open_data({"x": _X}, graph), batch_norm="insert")
    made.module.train()
    made.module({"x": torch.from_numpy(3 * _X)})  # moves the statistics
    with torch.no_grad():
        for number, (_, weight) in enumerate(made.module.weights()):
            weight.add_(0.01 * (number + 1))
    made.module.eval()
    with torch.no_grad():
        expected = made.module({"x": torch.from_numpy(_X)})["y"].numpy()
    assert sorted(made.write_back(graph)) == ["b", "c", "v", "w"]
    assert [node.SerializeToString() for node in graph.main.nodes] == nodes
    answers = Session(graph, threads=1).run({"x": _X})["y"]
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-4)


def test_nothing_to_insert_is_refused() -> None:
    graph = _graph()
    conv = graph.main.nodes[0]
    del conv.input[2]
    graph.main.touch()
    with pytest.raises(PassError, match="no Conv with a bias"):
        trainee(graph, lambda _: True, open_data({"x": _X}, graph), batch_norm="insert")
