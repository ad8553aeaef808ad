"""What stands behind a layer, and the rows before a mean."""

from __future__ import annotations

import math

import pytest

from graphopt.analysis.downstream import Downstream, downstream, result_of, unpooled
from graphopt.facts import shapes
from graphopt.facts.layers import Layer, layer
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text


def graph_of(body: str, ports: str) -> Graph:
    text = f'<ir_version: 8, opset_import: ["" : 13]> g {ports} {{ {body} }}'
    weights = {"W": (4, 4, 1, 1), "V": (4, 4), "B": (4,), "K": (4, 4, 3, 3)}
    return Graph(model_from_text(text, {k: v for k, v in weights.items() if f" {k}" in body}))


def layer_of(graph: Graph, tensor: str) -> Layer:
    node = graph.main.producer(tensor)
    assert node is not None
    found = layer(graph.main, node)
    assert isinstance(found, Layer)
    return found


PICTURES = "(float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] y)"
RELU = (0, math.inf)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("c = Conv(x, W) y = Relu(c)", Downstream("c", (), *RELU)),
        ("c = Conv(x, W) s = Add(x, c) y = Relu(s)", Downstream("s", ("x",), *RELU)),
        ("c = Conv(x, W) s = Sum(c, x, x) y = Relu(s)", Downstream("s", ("x", "x"), *RELU)),
        (
            "c = Conv(x, W) s = Add(c, x) t = Add(s, x) y = Sigmoid(t)",
            Downstream("t", ("x", "x")),
        ),
        ("y = Conv(x, W)", Downstream("y")),
        ("c = Conv(x, W) r = Relu(c) s = Sigmoid(c) y = Add(r, s)", Downstream("c")),
        ("c = Conv(x, W) r = Relu(c) q = Clip(c) y = Add(r, q)", Downstream("c")),
        (
            "c = Conv(x, W) r = Relu(c) h = HardSigmoid(c) y = Add(r, h)",
            Downstream("c", (), -2.5, math.inf),
        ),
        ("c = Conv(x, W) y = Mul(c, x)", Downstream("c")),
        ("c = Conv(x, W) p = GlobalAveragePool(x) s = Add(c, p) y = Relu(s)", Downstream("c")),
    ],
)
def test_what_is_added_and_what_is_flat_behind(body: str, expected: Downstream) -> None:
    graph = graph_of(body, PICTURES)
    node = next(node for node in graph.main.nodes if node.op_type == "Conv")
    assert downstream(graph.main, node.output[0], shapes.infer(graph)) == expected


def test_a_normalization_is_gone_through() -> None:
    body = "c = Conv(x, W) n = BatchNormalization(c, B, B, B, B) s = Add(n, x) y = Relu(s)"
    graph = graph_of(body, PICTURES)
    found = downstream(graph.main, "c", shapes.infer(graph))
    assert found.norm is graph.main.producer("n")
    assert (found.total, found.beside, found.low) == ("s", ("x",), 0)


def test_the_bias_of_a_product_belongs_to_it() -> None:
    ports = "(float[N, 5, 4] x) => (float[N, 5, 4] y)"
    graph = graph_of("m = MatMul(x, V) b = Add(m, B) s = Add(b, x) y = Relu(s)", ports)
    one = layer_of(graph, "m")
    assert result_of(one) == "b"
    found = downstream(graph.main, result_of(one), shapes.infer(graph))
    assert found == Downstream("s", ("x",), *RELU)


@pytest.mark.parametrize(
    ("body", "ports", "expected"),
    [
        (
            "p = GlobalAveragePool(x) f = Flatten(p) y = Gemm(f, V, B)",
            "(float[N, 4, 8, 8] x) => (float[N, 4] y)",
            ("x", 1),
        ),
        (
            "r = Relu(x) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm(f, V, B)",
            "(float[N, 4, 8, 8] x) => (float[N, 4] y)",
            ("r", 1),
        ),
        (
            "r = Relu(x) p = ReduceMean<axes = [2, 3], keepdims = 0>(r) y = MatMul(p, V)",
            "(float[N, 4, 8, 8] x) => (float[N, 4] y)",
            ("r", 1),
        ),
        (
            "r = Relu(x) p = ReduceMean<axes = [1], keepdims = 0>(r) y = MatMul(p, V)",
            "(float[N, 6, 4] x) => (float[N, 4] y)",
            ("r", 2),
        ),
        (
            "r = Relu(x) p = GlobalAveragePool(r) y = Conv(p, W)",
            "(float[N, 4, 8, 8] x) => (float[N, 4, 1, 1] y)",
            ("r", 1),
        ),
        (
            "r = Relu(x) p = AveragePool<kernel_shape = [8, 8]>(r) f = Flatten(p) y = MatMul(f, V)",
            "(float[N, 4, 8, 8] x) => (float[N, 4] y)",
            ("r", 1),
        ),
        (
            "r = Relu(x) p = AveragePool<kernel_shape = [2, 2]>(r) y = Conv(p, W)",
            "(float[N, 4, 8, 8] x) => (float[N, 4, 7, 7] y)",
            None,
        ),
        (
            "r = Relu(x) p = GlobalMaxPool(r) f = Flatten(p) y = MatMul(f, V)",
            "(float[N, 4, 8, 8] x) => (float[N, 4] y)",
            None,
        ),
        (
            "r = Relu(x) p = ReduceMean<axes = [1]>(r) y = Conv(p, W)",
            "(float[N, 4, 4, 8] x) => (float[N, 4, 4, 8] y)",
            None,
        ),
    ],
)
def test_the_rows_before_a_mean_over_all_positions(
    body: str, ports: str, expected: tuple[str, int] | None
) -> None:
    graph = graph_of(body, ports)
    assert unpooled(layer_of(graph, "y"), shapes.infer(graph)) == expected
