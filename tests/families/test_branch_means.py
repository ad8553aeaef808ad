"""Constants in place of branches that biases in front of them take up."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.facts.sized import single, sized
from graphopt.families.branch_means import take_up
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text, run_model

PADS = "<pads = [1, 1, 1, 1]>"
PICTURE = "(float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y)"
WORDS = "(float[N, 5, 8] x) => (float[N, 5, 8] y)"
KERNEL = (4, 4, 3, 3)
REST = {"m": (1, 4, 1, 1), "w": KERNEL, "v": KERNEL}


def _graph(ports: str, body: str, weights: dict[str, Any]) -> Graph:
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    return Graph(model_from_text(f"{head} g {ports} {{ {body} }}", weights))


@pytest.mark.parametrize(
    ("ports", "body", "weights"),
    [
        (PICTURE, f"c = Conv{PADS}(x, w) t = Add(c, m) y = Conv{PADS}(t, v)", REST),
        (PICTURE, f"c = Conv{PADS}(x, w, b) t = Add(m, c) y = Conv{PADS}(t, v)",
         {**REST, "b": (4,)}),
        (PICTURE, f"r = Relu(x) c = Conv{PADS}(r, w) s = Add(r, c) t = Add(s, m) y = Relu(t)",
         REST),
        (WORDS, "a = MatMul(x, w) c = Add(a, b) s = Add(x, c) t = Add(s, m) y = Tanh(t)",
         {"w": (8, 8), "b": (8,), "m": (1, 1, 8)}),
        ("(float[N, 8] x) => (float[N, 8] y)",
         "c = Gemm<alpha = 2.0, beta = 3.0>(x, w, b) t = Add(c, m) y = Tanh(t)",
         {"w": (8, 8), "b": (8,), "m": (1, 8)}),
        (PICTURE, f"c = Conv{PADS}(x, w) y = Add(c, m)", REST),
    ],
    ids=["no bias", "bias", "through a sum", "MatMul", "Gemm", "an output"],
)  # fmt: skip
def test_a_bias_takes_it_up(ports: str, body: str, weights: dict[str, Any]) -> None:
    graph = _graph(ports, body, weights)
    expected = run_model(graph)["y"]
    before = len(graph.main.nodes)
    total = "y" if "y = Add" in body else "t"
    assert take_up(graph, sized(graph, single(graph)).shapes, total)
    assert len(graph.main.nodes) == before - 1
    onnx.checker.check_model(graph.to_model(), full_check=True)
    np.testing.assert_allclose(run_model(graph)["y"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ports", "body", "weights"),
    [
        (PICTURE, f"c = Conv{PADS}(x, w) r = Relu(c) t = Add(r, m) y = Conv{PADS}(t, v)", REST),
        (PICTURE, f"c = Conv{PADS}(x, w) t = Add(c, m) y = Mul(t, c)", REST),
        (PICTURE, "t = Add(x, m) y = Relu(t)", REST),
        (PICTURE, f"c = Conv{PADS}(x, w) t = Add(c, m) y = Relu(t)",
         {**REST, "m": (1, 1, 6, 1)}),
        (PICTURE, f"c = Conv{PADS}(x, w) r = Relu(c) s = Add(x, r) t = Add(s, m) y = Tanh(t)",
         REST),
        (WORDS, "c = MatMul(x, w) t = Add(c, m) s = Add(t, x) y = Tanh(s)",
         {"w": (8, 8), "m": (1, 5, 1)}),
        (PICTURE, f"c = Conv{PADS}(x, w) t = Mul(c, m) y = Relu(t)", REST),
    ],
    ids=["Relu", "two readers", "input", "rows", "behind a Relu", "other axis", "a product"],
)  # fmt: skip
def test_elsewhere_it_stays(ports: str, body: str, weights: dict[str, Any]) -> None:
    graph = _graph(ports, body, weights)
    before = graph.to_model().SerializeToString(deterministic=True)
    assert not take_up(graph, sized(graph, single(graph)).shapes, "t")
    assert graph.to_model().SerializeToString(deterministic=True) == before
