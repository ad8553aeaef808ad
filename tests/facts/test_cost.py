"""Parameters and zeros, counted by hand for each kind of layer."""

import numpy as np
import onnx
import pytest

from graphopt.facts import cost
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.rewrite import edit


def parse(head: str, body: str, opsets: str = '"" : 18', **weights: Array) -> Graph:
    """A graph from text, with weights given as arrays."""
    graph = Graph(
        onnx.parser.parse_model(f"<ir_version: 8, opset_import: [{opsets}]> g {head} {body}")
    )
    for name, values in weights.items():
        graph.main.initializers[name] = graph.store(name, values)
    graph.main.touch()
    return graph


def ones(*shape: int, dtype: type = np.float32) -> Array:
    return np.ones(shape, dtype)


def quantized(kind: str) -> Graph:
    """A matrix product of int8 weights in the QDQ or the operator form."""
    values = np.array([[0, 1, 3], [3, 0, 2]], np.int8)
    scale, zero = np.float32(0.5), np.int8(3)
    bodies = {
        "qdq": "{ h = DequantizeLinear(w, s, z) y = MatMul(x, h) }",
        "dynamic": "{ q, a, b = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, b, z)"
        " y = Cast <to = 1> (i) }",
        "operator": "{ q = QuantizeLinear(x, s, u) m = QLinearMatMul(q, s, u, w, s, z, s, u)"
        " y = DequantizeLinear(m, s, u) }",
    }
    graph = parse(
        "(float[4, 2] x) => (float[4, 3] y)",
        bodies[kind],
        w=values,
        s=np.asarray(scale),
        z=np.asarray(zero),
        u=np.asarray(np.uint8(128)),
    )
    edit.remove_dead(graph)
    return graph


@pytest.mark.parametrize("kind", ["qdq", "dynamic", "operator"])
def test_quantized_layers_count_like_float_ones(kind: str) -> None:
    graph = quantized(kind)
    assert cost.params(graph) == 6
    assert cost.sparsity(graph) == pytest.approx(2 / 6)  # the zero point is 3


def test_quantized_convolution_and_its_bias() -> None:
    graph = parse(
        "(uint8[1, 2, 4, 4] x) => (uint8[1, 3, 4, 4] y)",
        "{ y = QLinearConv(x, s, u, w, s, z, s, u, b) }",
        w=ones(3, 2, 1, 1, dtype=np.int8),
        b=ones(3, dtype=np.int32),
        s=np.asarray(np.float32(1)),
        u=np.asarray(np.uint8(0)),
        z=np.asarray(np.int8(0)),
    )
    assert cost.params(graph) == 6 + 3


def test_zero_point_per_channel() -> None:
    graph = parse(
        "(float[4, 2] x) => (float[4, 3] y)",
        "{ h = DequantizeLinear <axis = 1> (w, s, z) y = MatMul(x, h) }",
        w=np.array([[0, 1, 3], [3, 0, 2]], np.int8),
        s=ones(3),
        z=np.array([3, 0, 9], np.int8),
    )
    assert cost.sparsity(graph) == pytest.approx(2 / 6)


def test_parameters_are_counted_wherever_they_are() -> None:
    graph = parse(
        "(float[4] x, bool c) => (float[4] y)",
        """<int64[1] axes = {0}> {
          k = Constant <value = float[4] {1, 2, 3, 4}> ()
          f = Constant <value_floats = [1.0, 2.0]> ()
          i = Constant <value_ints = [1, 2]> ()
          a = Add(x, k)
          b = Mul(a, shared)
          h = Add(b, shared)
          u = Unsqueeze(h, axes)
          y = If (c) <
            then_branch = t () => (float[4] o) <float[4] v = {1,2,3,4}> { o = Add(h, v) },
            else_branch = e () => (float[4] p) { p = Identity(h) }
          >
        }""",
        shared=ones(4),
    )
    assert cost.params(graph) == 4 + 2 + 4 + 4


def test_of_sparse_initializers_every_element_counts() -> None:
    graph = parse("(float[4, 4] x) => (float[4, 4] y)", "{ y = MatMul(x, w) }")
    sparse = graph.main.proto.sparse_initializer.add(dims=[4, 4])
    sparse.values.CopyFrom(onnx.helper.make_tensor("w", 1, [3], [1.0, 2.0, 3.0]))
    sparse.indices.CopyFrom(onnx.helper.make_tensor("", 7, [3], [0, 1, 2]))
    assert cost.params(graph) == 16
    assert cost.sparsity(graph) == 13 / 16


def test_sparsity() -> None:
    graph = parse(
        "(float[4, 2] x) => (float[4, 4] y)",
        "{ h = MatMul(x, w) y = Add(h, b) }",
        w=np.array([[0, 1, 0, 2], [0, 0, 0, -0.0]], np.float32),
        b=np.zeros(4, np.float32),
    )
    assert cost.sparsity(graph) == 6 / 8
    assert cost.sparsity(parse("(float[4] x) => (float[4] y)", "{ y = Relu(x) }")) == 0.0
