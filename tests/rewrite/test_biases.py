from __future__ import annotations

import numpy as np
import pytest

from graphopt.facts.layers import Layer, layer
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.rewrite.biases import has_bias, shift_bias
from graphopt.testing import model_from_text, run_model

SHIFT = np.arange(4.0)
FORMS = [
    ("y = Conv (x, W, B)", "1,3,5,5", {"W": (4, 3, 3, 3), "B": (4,)}),
    ("y = Gemm <beta = 2.0> (x, W, B)", "2,3", {"W": (3, 4), "B": (4,)}),
    ("y = Gemm <alpha = 3.0> (x, W, B)", "2,3", {"W": (3, 4), "B": (1, 4)}),
    ("h = MatMul (x, W) y = Add (B, h)", "2,3", {"W": (3, 4), "B": (4,)}),
]


def _graph(body: str, shape: str, weights: dict[str, tuple[int, ...]]) -> tuple[Graph, Layer]:
    text = (
        f'<ir_version: 8, opset_import: ["" : 13]> g (float[{shape}] x) => (float y) {{ {body} }}'
    )
    graph = io.load(model_from_text(text, weights))
    one = layer(graph.main, graph.main.nodes[0])
    assert isinstance(one, Layer)
    return graph, one


@pytest.mark.parametrize(("body", "shape", "weights"), FORMS)
def test_the_output_moves_by_the_shift(
    body: str, shape: str, weights: dict[str, tuple[int, ...]]
) -> None:
    graph, one = _graph(body, shape, weights)
    before = run_model(graph)["y"]
    assert has_bias(one)
    shift_bias(one, SHIFT)
    along = SHIFT.reshape(-1, 1, 1) if "Conv" in body else SHIFT
    np.testing.assert_allclose(run_model(graph)["y"] - before, along + 0 * before, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "shape", "weights"),
    [
        ("y = MatMul (x, W)", "2,3", {"W": (3, 4)}),
        ("y = Conv (x, W)", "1,3,5,5", {"W": (4, 3, 3, 3)}),
        ("h = MatMul (x, W) y = Add (h, B)", "2,3", {"W": (3, 4), "B": (1,)}),
        ("y = Gemm <beta = 0.0> (x, W, B)", "2,3", {"W": (3, 4), "B": (4,)}),
        ("y = Gemm (x, W, h) h = Relu (B)", "2,3", {"W": (3, 4), "B": (4,)}),
    ],
)
def test_without_a_bias_of_its_own(
    body: str, shape: str, weights: dict[str, tuple[int, ...]]
) -> None:
    assert not has_bias(_graph(body, shape, weights)[1])


def test_a_bias_that_others_read_is_copied() -> None:
    graph, one = _graph("h = Gemm (x, W, B) y = Add (h, B)", "2,3", {"W": (3, 4), "B": (4,)})
    before = run_model(graph)["y"]
    shift_bias(one, SHIFT)
    np.testing.assert_allclose(run_model(graph)["y"] - before, SHIFT + 0 * before, atol=1e-5)
