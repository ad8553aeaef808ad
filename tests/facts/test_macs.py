"""MACs, counted by hand for each kind of layer; what is unknown makes the sum unknown."""

import numpy as np
import onnx
import pytest

from graphopt.facts.macs import MacCount, count_macs, node_macs
from graphopt.facts.shapes import infer
from graphopt.facts.sized import free_sizes, single, sized
from graphopt.graph.declared import ValueInfos
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array


def parse(head: str, body: str, opsets: str = '"" : 18', more: str = "", **weights: Array) -> Graph:
    """A graph from text, with weights given as arrays and functions behind it."""
    text = f"<ir_version: 8, opset_import: [{opsets}]> g {head} {body} {more}"
    graph = Graph(onnx.parser.parse_model(text))
    for name, values in weights.items():
        graph.main.initializers[name] = graph.store(name, values)
    graph.main.touch()
    return graph


def counted(graph: Graph) -> MacCount:
    return count_macs(graph, infer(graph))


def macs(graph: Graph) -> int | None:
    return counted(graph).total


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
        "(float[1, 4, 8, 8] x) => (float[N, C, H, W] y)",
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
        ("MatMul(s, w)", None),  # the number of positions is not known
        ('Einsum <equation = "abqk,kn -> abqn"> (b, w)', 2 * 3 * 5 * 7 * 9),
        ('Einsum <equation = "...k,kn -> ...n"> (b, w)', None),
        ('Einsum <equation = "ij->ji"> (x)', 0),
        ("Relu(x)", 0),
    ],
)
def test_products(node: str, expected: int | None) -> None:
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


@pytest.mark.parametrize(
    "body",
    [
        "{ h = DequantizeLinear(w, s, z) y = MatMul(x, h) }",
        "{ q, a, b = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, b, z)"
        " y = Cast <to = 1> (i) }",
        "{ q = QuantizeLinear(x, s, u) m = QLinearMatMul(q, s, u, w, s, z, s, u)"
        " y = DequantizeLinear(m, s, u) }",
    ],
)
def test_quantized_layers_count_like_float_ones(body: str) -> None:
    graph = parse(
        "(float[4, 2] x) => (float[4, 3] y)",
        body,
        w=ones(2, 3, dtype=np.int8),
        s=np.asarray(np.float32(0.5)),
        z=np.asarray(np.int8(3)),
        u=np.asarray(np.uint8(128)),
    )
    assert macs(graph) == 4 * 3 * 2


_CONTRIB = '"" : 18, "com.microsoft" : 1'


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("com.microsoft.MultiHeadAttention <num_heads = 2> (q, k, k)", 7 * (2 * 5 * 8 + 2 * 5 * 8)),
        ("com.microsoft.Attention <num_heads = 2> (q, w, b)", 10 * 8 * 24 + 2 * 5 * 5 * 2 * 8),
        ("com.microsoft.GroupQueryAttention <num_heads = 2> (q, k, k)", None),
        ("com.microsoft.FusedMatMul <transB = 1> (q, k)", 2 * 5 * 7 * 8),
    ],
)
def test_attention(node: str, expected: int | None) -> None:
    size = "2, 5, 7" if "MatMul" in node else "2, 5, 8"
    graph = parse(
        f"(float[2, 5, 8] q, float[2, 7, 8] k) => (float[{size}] y)",
        f"{{ y = {node} }}",
        _CONTRIB,
        w=ones(8, 24),
        b=ones(24),
    )
    assert macs(graph) == expected


def test_attention_of_onnx() -> None:
    graph = parse(
        "(float[2, 4, 5, 8] q, float[2, 4, 7, 8] k, float[2, 4, 7, 6] v) => (float[N, H, L, D] y)",
        "{ y = Attention(q, k, v) }",
        '"" : 23',
    )
    assert macs(graph) == 2 * 4 * 5 * 7 * (8 + 6)


def test_of_the_branches_of_an_if_the_costlier_one_counts() -> None:
    graph = parse(
        "(float[4, 4] x, bool c) => (float[4, 4] y)",
        """{
          y = If (c) <
            then_branch = t () => (float[4, 4] o) { p = MatMul(x, x) o = MatMul(p, x) },
            else_branch = e () => (float[4, 4] q) { q = MatMul(x, x) }
          >
        }""",
    )
    assert macs(graph) == 2 * 64


LOOP = """{{
  y = Loop ({rounds}, {begins}, x) <
    body = l (int64 i, bool k, float[4, 4] s) => (bool kk, float[4, 4] r)
    {{ kk = {goes_on} r = MatMul(s, x) }}
  >
}}"""


@pytest.mark.parametrize(
    ("rounds", "begins", "goes_on", "expected"),
    [
        ("five", "", "Identity(k)", 5 * 64),
        ("five", "true", "Identity(true)", 5 * 64),
        ("n", "true", "Identity(k)", None),
        ("five", "c", "Identity(k)", None),
        ("five", "true", "Identity(c)", None),
        ("", "true", "Identity(k)", None),
    ],
)
def test_a_loop_counts_as_often_as_it_is_sure_to_run(
    rounds: str, begins: str, goes_on: str, expected: int | None
) -> None:
    graph = parse(
        "(float[4, 4] x, bool c, int64 n) => (float[4, 4] y)",
        LOOP.format(rounds=rounds or '""', begins=begins or '""', goes_on=goes_on),
        five=np.array(5),
        true=np.array(True),
    )
    found = counted(graph)
    assert found.total == expected
    assert ("how often its body runs" in found.missing) == (expected is None)


def test_a_scan_counts_as_often_as_its_input_is_long() -> None:
    graph = parse(
        "(float[6, 3, 4] x, float[4, 4] w) => (float[6, 3, 4] y)",
        """{
          y = Scan <num_scan_inputs = 1, body = l (float[3, 4] s) => (float[3, 4] r)
            { r = MatMul(s, w) }> (x)
        }""",
    )
    assert macs(graph) == 6 * (3 * 4 * 4)


def test_what_is_unknown_makes_the_sum_unknown() -> None:
    head = "(float[1, 2, 4, 4] x) => (float y)"
    opsets, weight = '"" : 18, "odd" : 1', ones(3, 2, 1, 1)
    graph = parse(head, "{ y = odd.Mystery(x) z = Conv(x, w) }", opsets, w=weight)
    assert counted(graph).missing.endswith("what operators of 'odd' multiply is not known")
    assert macs(graph) is None
    assert node_macs(graph.main, graph.main.nodes[1], infer(graph)) == 16 * 3 * 2
    assert node_macs(graph.main, graph.main.nodes[0], infer(graph)) is None
    assert counted(parse("(float[4] x) => (float[4] y)", "{ y = Relu(x) }")) == MacCount(0)
    pixels = parse("(float[N, 2, H, W] x) => (float[N, 3, H, W] y)", "{ y = Conv(x, w) }", w=weight)
    assert counted(pixels).missing == "Conv 'Conv(y)': the sizes of 'y' are not known: [?, 3, ?, ?]"


PICTURE = "(float[N, 2, H, W] x) => (float[N, 3, H, W] y)"


def test_sizes_of_a_run_go_through_the_whole_model() -> None:
    body = "{ h = Conv(x, w) a, b, c, d = Split <num_outputs = 4, axis = 2> (h) y = Conv(a, v) }"
    graph = parse(PICTURE, body, w=ones(8, 2, 1, 1), v=ones(3, 8, 1, 1))
    found = sized(graph, {"x": (2, 2, 8, 6)})
    assert found.inputs == {"x": (2, 2, 8, 6)}
    assert found.shapes.static_shape("y") == (2, 3, 2, 6)
    assert found.macs == MacCount(2 * 8 * 6 * 16 + 2 * 2 * 6 * 24)
    assert graph.main.proto.input[0].type.tensor_type.shape.dim[2].dim_param == "H"


def test_stale_shapes_behind_free_inputs_are_not_believed() -> None:
    graph = parse(PICTURE, "{ h = Conv(x, w) y = Relu(h) }", w=ones(3, 2, 1, 1))
    stale = onnx.helper.make_tensor_value_info("h", 1, [1, 3, 4, 4])
    graph.main.value_infos = ValueInfos([stale])
    assert sized(graph, {"x": (2, 2, 8, 6)}).macs == MacCount(2 * 8 * 6 * 6)


def test_functions_count_at_the_sizes_of_each_call() -> None:
    graph = parse(
        "(float[N, 4] x) => (float[N, 2] y)",
        "{ h = our.Layer(x, w) y = our.Layer(h, v) }",
        '"" : 18, "our" : 1',
        '<opset_import: ["" : 18], domain: "our"> Layer (a, b) => (c)'
        " { m = MatMul(a, b) c = Relu(m) }",
        w=ones(4, 6),
        v=ones(6, 2),
    )
    assert macs(graph) is None
    assert sized(graph, {"x": (3, 4)}).macs == MacCount(3 * 4 * 6 + 3 * 6 * 2)


@pytest.mark.parametrize(
    ("inputs", "free", "alone"),
    [
        ("float[N, 3, 8, 8] x", True, {"x": (1, 3, 8, 8)}),
        ("float[N, 3, H, W] x", True, {}),
        ("float[2, 3] x", False, {"x": (2, 3)}),
        ("float[N, 3] x, float[N, T] m", True, {"x": (1, 3)}),
    ],
)
def test_free_sizes(inputs: str, free: bool, alone: dict[str, tuple[int, ...]]) -> None:
    graph = parse(f"({inputs}) => (float y)", "{ y = ReduceSum <keepdims = 0> (x) }")
    assert free_sizes(graph) == free
    assert single(graph) == alone
