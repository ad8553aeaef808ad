"""Parameters, MACs, zeros and bytes, counted by hand for each kind of layer."""

import numpy as np
import onnx
import pytest

from graphopt.facts import cost, shapes
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


def macs(graph: Graph) -> int | None:
    return cost.total_macs(graph, shapes.infer(graph))


def ones(*shape: int, dtype: type = np.float32) -> Array:
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("Conv <pads = [1, 1, 1, 1]> (x, w)", 8 * 8 * 6 * (4 * 9)),
        ("Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)", 4 * 4 * 6 * (4 * 9)),
        ("Conv <group = 4> (x, d)", 6 * 6 * 8 * 9),
        ("ConvTranspose <strides = [2, 2]> (x, t)", 8 * 8 * 4 * (5 * 4)),
    ],
)
def test_convolutions(node: str, expected: int) -> None:
    graph = parse(
        "(float[N, 4, 8, 8] x) => (float[N, C, H, W] y)",
        f"{{ y = {node} }}",
        w=ones(6, 4, 3, 3),
        d=ones(8, 1, 3, 3),
        t=ones(4, 5, 2, 2),
    )
    assert macs(graph) == expected


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("MatMul(x, w)", 5 * 7 * 9),
        ("MatMul(v, z)", 5 * 7 * 5),
        ("Gemm <transB = 1> (x, u)", 5 * 7 * 9),
        ("Gemm <transA = 1> (z, w)", 5 * 7 * 9),
        ("MatMul(b, w)", 2 * 3 * 5 * 7 * 9),
        ("MatMul(b, k)", 2 * 3 * 5 * 7),
        ("MatMul(s, w)", 7 * 9),  # an unknown length counts as one position
        ("Relu(x)", 0),
    ],
)
def test_products(node: str, expected: int) -> None:
    graph = parse(
        "(float[5, 7] x, float[5, 5] v, float[5, 7] p, float[7, 5] z, float[2, 3, 5, 7] b,"
        " float[N, L, 7] s) => (float y)",
        f"{{ o = {node.replace('z)', 'p)')} y = ReduceSum <keepdims = 0> (o) }}",
        w=ones(7, 9),
        u=ones(9, 7),
        k=ones(7),
    )
    assert macs(graph) == expected


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers(kind: str, gates: int) -> None:
    graph = parse(
        "(float[6, 2, 3] x) => (float[A, B, C, D] y)",
        f"{{ y = {kind} <hidden_size = 5> (x, w, r) }}",
        w=ones(1, gates * 5, 3),
        r=ones(1, gates * 5, 5),
    )
    assert macs(graph) == 6 * 2 * gates * 5 * (3 + 5)


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
    assert macs(graph) == 4 * 3 * 2
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
    assert macs(graph) == 16 * 3 * 2
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
    assert macs(graph) == 4 * 4 * 4


def test_sparsity() -> None:
    graph = parse(
        "(float[4, 2] x) => (float[4, 4] y)",
        "{ h = MatMul(x, w) y = Add(h, b) }",
        w=np.array([[0, 1, 0, 2], [0, 0, 0, -0.0]], np.float32),
        b=np.zeros(4, np.float32),
    )
    assert cost.sparsity(graph) == 6 / 8
    assert cost.sparsity(parse("(float[4] x) => (float[4] y)", "{ y = Relu(x) }")) == 0.0


def test_branches_and_loops() -> None:
    graph = parse(
        "(float[4, 4] x, bool c, int64 n) => (float[4, 4] y)",
        """{
          h = If (c) <
            then_branch = t () => (float[4, 4] o) { p = MatMul(x, x) o = MatMul(p, x) },
            else_branch = e () => (float[4, 4] q) { q = MatMul(x, x) }
          >
          y = Loop (n, c, h) <
            body = l (int64 i, bool k, float[4, 4] s) => (bool kk, float[4, 4] r)
            { kk = Identity(k) r = MatMul(s, x) }
          >
        }""",
    )
    assert macs(graph) == 2 * 64 + 64


def test_unknown_shapes() -> None:
    mystery = "{ h = odd.Mystery(x) y = Conv(h, w) }"
    head = "(float[1, 2, 4, 4] x) => (float y)"
    opsets = '"" : 18, "odd" : 1'
    graph = parse(head, mystery, opsets, w=ones(3, 2, 1, 1))
    graph.main.proto.output[0].type.tensor_type.ClearField("shape")
    assert macs(graph) is None
    graph = parse(head, mystery.replace("}", "z = Conv(x, w) }"), opsets, w=ones(3, 2, 1, 1))
    graph.main.proto.output[0].type.tensor_type.ClearField("shape")
    assert macs(graph) == 16 * 3 * 2
    nothing = parse("(float[4] x) => (float[4] y)", "{ y = Relu(x) }")
    assert macs(nothing) == 0
    pixels = parse(
        "(float[N, 2, H, W] x) => (float[N, 3, H, W] y)", "{ y = Conv(x, w) }", w=ones(3, 2, 1, 1)
    )
    assert macs(pixels) is None
