"""The view of a layer, for each way in which files store one."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphopt.facts.layers import Layer, Refusal, float_layers, layer, layers
from graphopt.graph import check
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import label
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

RNG = np.random.default_rng(5)
ROWS = "(float[2, 6] x) => (float[2, 4] y)"
IMAGE = "(float[1, 4, 6, 6] x) => (float y)"
CONSTANTS: dict[str, NDArray[Any]] = {
    "w": RNG.normal(size=(6, 4)).astype(np.float32),
    "t": RNG.normal(size=(4, 6)).astype(np.float32),
    "b": RNG.normal(size=4).astype(np.float32),
    "k": RNG.normal(size=(8, 4, 3, 3)).astype(np.float32),
    "g": RNG.normal(size=(8, 2, 3, 3)).astype(np.float32),
    "d": RNG.normal(size=(4, 1, 3, 3)).astype(np.float32),
    "e": RNG.normal(size=8).astype(np.float32),
    "double": np.ones((6, 4)),
    "half": RNG.normal(size=(6, 4)).astype(np.float16),
    "cube": RNG.normal(size=(3, 6, 4)).astype(np.float32),
    "i": RNG.integers(-127, 127, (6, 4)).astype(np.int8),
    "n": RNG.integers(-7, 7, (6, 4)).astype(ml_dtypes.int4),
    "kernel": RNG.integers(0, 255, (8, 4, 3, 3)).astype(np.uint8),
    "sum": RNG.integers(-999, 999, 8).astype(np.int32),
    "s": np.asarray(0.02, np.float32),
    "rows": RNG.uniform(0.01, 0.03, (1, 4)).astype(np.float32),
    "s4": RNG.uniform(0.01, 0.03, 4).astype(np.float32),
    "s8": RNG.uniform(0.01, 0.03, 8).astype(np.float32),
    "z": np.asarray(128, np.uint8),
    "z8": np.arange(120, 128).astype(np.uint8),
    "blocks": RNG.uniform(0.01, 0.03, (2, 4)).astype(np.float32),
    "size": np.array([6, 4]),
    "flat": RNG.normal(size=24).astype(np.float32),
    "huge": np.full((6, 4), 1e30, np.float32),
    "vector": np.ones(6, np.float32),
    "bad": np.full((6, 4), np.nan, np.float32),
}


def graph_of(body: str, ports: str = ROWS, listed: str = "") -> Graph:
    """A graph with those of the constants that the body names."""
    head = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
    model = onnx.parser.parse_model(f"{head} g {ports} {{ {body} }}")
    read = {name for node in onnx_nodes(model.graph) for name in node.input}
    for name in sorted(read.intersection(CONSTANTS)):
        tensor = onnx.numpy_helper.from_array(CONSTANTS[name], name)
        model.graph.initializer.append(tensor)
        if name == listed:
            shape = list(tensor.dims)
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, shape)
            )
    return Graph(model)


def onnx_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    bodies = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [*graph.node, *(node for body in bodies for node in onnx_nodes(body))]


def only(scope: Graph | Scope) -> Layer:
    """The one layer that there is."""
    (one,) = layers(scope)
    assert isinstance(one, Layer)
    return one


FLOAT_LAYERS = {
    "Conv": ("y = Conv(x, k, e)", IMAGE, (0, 1), 8, 4),
    "Conv grouped": ("y = Conv<group = 2, pads = [1, 1, 1, 1]>(x, g, e)", IMAGE, (0, 1), 8, 4),
    "Conv depthwise": ("y = Conv<group = 4>(x, d)", IMAGE, (0, 1), 4, 4),
    "ConvTranspose": ("y = ConvTranspose<group = 2>(x, d)", IMAGE, (1, 0), 1, 4),
    "Gemm": ("y = Gemm<alpha = 0.5, beta = 2.0>(x, w, b)", ROWS, (1, 0), 4, 6),
    "transB": ("y = Gemm<transB = 1>(x, t, b)", ROWS, (0, 1), 4, 6),
    "transA": ("u = Transpose(x) y = Gemm<transA = 1>(u, w)", ROWS, (1, 0), 4, 6),
    "MatMul": ("y = MatMul(x, w)", ROWS, (1, 0), 4, 6),
    "MatMul, Add": ("m = MatMul(x, w) y = Add(b, m)", ROWS, (1, 0), 4, 6),
    "on the left": ("u = Transpose(x) m = MatMul(t, u) y = Transpose(m)", ROWS, (0, 1), 4, 6),
    "Identity": ("v = Identity(w) y = MatMul(x, v)", ROWS, (1, 0), 4, 6),
    "Transpose": ("v = Transpose(t) y = MatMul(x, v)", ROWS, (0, 1), 4, 6),
    "Transpose, Gemm": ("v = Transpose(w) y = Gemm<transB = 1>(x, v, b)", ROWS, (1, 0), 4, 6),
    "DequantizeLinear": ("v = DequantizeLinear(i, s) y = MatMul(x, v)", ROWS, (1, 0), 4, 6),
    "DequantizeLinear of 4 bits, turned": (
        "v = DequantizeLinear<axis = 1>(n, s4) q = Transpose(v) y = Gemm<transB = 1>(x, q, b)",
        *(ROWS, (1, 0), 4, 6),
    ),
    "blocks": (
        "v = DequantizeLinear<axis = 0, block_size = 3>(i, blocks) y = MatMul(x, v)",
        *(ROWS, (1, 0), 4, 6),
    ),
    "DequantizeLinear, Conv": (
        "v = DequantizeLinear<axis = 0>(kernel, s8, z8) c = DequantizeLinear<axis = 0>(sum, s8)"
        " y = Conv(x, v, c)",
        *(IMAGE, (0, 1), 8, 4),
    ),
    "Cast of half": ("v = Cast<to = 1>(half) y = MatMul(x, v)", ROWS, (1, 0), 4, 6),
    "Cast and Mul": ("c = Cast<to = 1>(i) v = Mul(rows, c) y = MatMul(x, v)", ROWS, (1, 0), 4, 6),
    "4 bits, Cast and Mul": (
        "c = Cast<to = 1>(n) v = Mul(c, s) y = MatMul(x, v)",
        ROWS,
        (1, 0),
        4,
        6,
    ),
}


@pytest.mark.parametrize("name", FLOAT_LAYERS)
def test_what_a_layer_says_is_what_it_computes(name: str) -> None:
    body, ports, axes, out, into = FLOAT_LAYERS[name]
    graph = graph_of(body, ports)
    assert check.problems(graph) == []
    one = only(graph)
    assert (one.out_axis, one.in_axis) == axes
    assert (one.out_channels, one.in_channels) == (out, into)
    assert one.depthwise is (name == "Conv depthwise")
    x = RNG.normal(size=(1, 4, 6, 6) if one.kind == "conv" else (2, 6)).astype(np.float32)
    result = Session(graph, level="off").run({"x": x})["y"]
    effective = one.effective()
    assert not isinstance(effective, Refusal)
    weight, bias = effective
    assert bias.shape == (one.channels,)
    if one.kind == "conv":
        node = onnx.NodeProto()
        node.CopyFrom(one.node)
        del node.input[1:]
        node.input.extend(["weight", "bias"])
        text = f'<ir_version: 10, opset_import: ["" : 21]> g {ports} {{ y = Identity(x) }}'
        arrays = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
        model = model_from_text(text, arrays)
        model.graph.node[0].CopyFrom(node)
        expected = Session(Graph(model), level="off").run({"x": x})["y"]
    else:
        expected = x @ one.matrix() + bias
        axes_read = weight if one.read_axes == (1, 0) else weight.T
        np.testing.assert_allclose(one.matrix(), axes_read, rtol=1e-6)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=40)
@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from([1.0, 0.5, -2.0]),
    st.sampled_from([1.0, 3.0]),
    st.sampled_from(["", "Identity", "Transpose"]),
    st.tuples(st.integers(1, 5), st.integers(2, 5), st.integers(2, 5)),
    st.sampled_from(["none", "(out,)", "(1, out)", "()"]),
)
def test_every_gemm(
    left: bool,
    right: bool,
    alpha: float,
    beta: float,
    through: str,
    sizes: tuple[int, int, int],
    added: str,
) -> None:
    rows, into, out = sizes
    shape = (out, into) if right is not (through == "Transpose") else (into, out)
    weights: dict[str, Any] = {"w": RNG.normal(size=shape).astype(np.float32)}
    shapes = {"(out,)": (out,), "(1, out)": (1, out), "()": ()}
    if added != "none":
        weights["b"] = RNG.normal(size=shapes[added]).astype(np.float32)
    given = f"transA = {int(left)}, transB = {int(right)}, alpha = {alpha}, beta = {beta}"
    read = f"v = {through}(w)" if through else ""
    third = "" if added == "none" else ", b"
    data = (into, rows) if left else (rows, into)
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
    g (float[{data[0]}, {data[1]}] x) => (float[{rows}, {out}] y) {{
      {read} y = Gemm<{given}>(x, {"v" if through else "w"}{third})
    }}"""
    graph = Graph(model_from_text(text, weights))
    one = only(graph)
    effective = one.effective()
    assert not isinstance(effective, Refusal)
    x = RNG.normal(size=data).astype(np.float32)
    expected = (x.T if left else x) @ one.matrix() + effective[1]
    result = Session(graph, level="off").run({"x": x})["y"]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


FORMS = {
    "y = MatMul(x, w)": "float",
    "v = Transpose(t) y = MatMul(x, v)": "float",
    "v = DequantizeLinear(i, s) y = MatMul(x, v)": "dequantized",
    "v = DequantizeLinear(i, s) q = Identity(v) y = MatMul(x, q)": "dequantized",
    "v = Cast<to = 1>(half) y = MatMul(x, v)": "float",
    "c = Cast<to = 1>(i) v = Mul(c, s) y = MatMul(x, v)": "expanded",
    "q, c, p = DynamicQuantizeLinear(x) m = MatMulInteger(q, i, p) y = Cast<to = 1>(m)": "integer",
}


@pytest.mark.parametrize("body", FORMS)
def test_forms(body: str) -> None:
    one = only(graph_of(body))
    assert one.weight.form == FORMS[body]
    assert one.kind == "linear"
    assert (one.out_channels, one.in_channels) == (4, 6)


def test_scale_and_codes_of_stored_weights() -> None:
    body = "v = DequantizeLinear<axis = 1>(i, s4) q = Transpose(v) y = Gemm<transB = 1>(x, q)"
    one = only(graph_of(body))
    assert one.weight.constant.origin == "i"
    assert one.weight.scale is not None and one.weight.scale.origin == "s4"
    one = only(graph_of("c = Cast<to = 1>(i) v = Mul(rows, c) y = MatMul(x, v)"))
    assert one.weight.scale is not None and one.weight.scale.origin == "rows"
    assert only(graph_of("y = MatMul(x, w)")).weight.scale is None


BIASES: dict[str, tuple[str, tuple[str, int] | None]] = {
    "y = Gemm(x, w, b)": ("b", ("Gemm(y)", 2)),
    "y = Gemm(x, w)": ("", ("Gemm(y)", 2)),
    "m = MatMul(x, w) y = Add(m, b)": ("b", ("Add(y)", 1)),
    "m = MatMul(x, w) y = Add(b, m)": ("b", ("Add(y)", 0)),
    "m = MatMul(x, w) c = DequantizeLinear(i4, s) y = Add(c, m)": ("i4", ("Add(y)", 0)),
    "y = MatMul(x, w)": ("", None),
    "m = MatMul(x, w) y = Sub(m, b)": ("", None),
    "m = MatMul(x, w) y = Add(m, m)": ("", None),
    "m = MatMul(x, w) a = Add(m, b) y = Add(a, m)": ("", None),
    "m = MatMul(x, w) y = Add(m, s)": ("", None),
}


@pytest.mark.parametrize("body", BIASES)
def test_who_reads_the_bias(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONSTANTS, "i4", np.arange(4, dtype=np.int32))
    one = only(graph_of(body))
    name, place = BIASES[body]
    assert (one.bias.constant.origin if one.bias else "") == name
    where = one.bias_place
    assert (None if where is None else (label(where[0]), where[1])) == place
    assert one.adds is ("w, b" in body)


def test_an_add_whose_operand_is_an_output_is_no_bias() -> None:
    ports = "(float[2, 6] x) => (float[2, 4] y, float[2, 4] m)"
    assert only(graph_of("m = MatMul(x, w) y = Add(m, b)", ports)).bias is None


NONE = {
    "both operands are computed": "y = MatMul(x, x)",
    "not a float constant": "v = Relu(w) y = MatMul(x, size)",
    "is a vector": "y = MatMul(x, vector)",
    "its input is constant": "v = MatMul(t, w) y = MatMul(x, v)",
}


@pytest.mark.parametrize("reason", NONE)
def test_operators_without_a_weight_say_why(reason: str) -> None:
    first, *_ = layers(graph_of(NONE[reason]))
    assert isinstance(first, Refusal)
    assert reason in first.reason
    assert first.node.op_type == "MatMul"


def test_a_computed_kernel_is_no_weight() -> None:
    (first,) = layers(graph_of("v = Relu(k) y = Conv(x, v)", IMAGE))
    assert isinstance(first, Refusal) and first.reason == "its weight is not a float constant"


def test_other_operators_are_neither() -> None:
    graph = graph_of("y = Add(x, w)")
    assert layer(graph.main, graph.main.nodes[0]) is None
    assert list(layers(graph)) == []


NEEDS: dict[str, tuple[str, str, str]] = {
    "float32": ("c = Cast<to = 11>(x) y = MatMul(c, double)", "", "is double, not float"),
    "float": ("v = DequantizeLinear(i, s) y = MatMul(x, v)", "", "quantized already"),
    "fixed": ("y = MatMul(x, w)", "w", "put freeze-initializers before"),
    "right": ("y = MatMul(t, x)", "", "left operand"),
    "matrix": ("y = MatMul(x, cube)", "", "has rank 3"),
    "finite": ("y = MatMul(x, bad)", "", "NaN or infinity"),
}


@pytest.mark.parametrize("need", NEEDS)
def test_what_can_be_asked_of_a_layer(need: Any) -> None:
    body, listed, reason = NEEDS[need]
    one = only(graph_of(body, listed=listed))
    refusal = one.refusal(need)
    assert refusal is not None and reason in refusal.reason
    assert refusal.node is one.node
    fine = only(graph_of("m = MatMul(x, w) y = Add(m, b)"))
    assert fine.refusal("float", "float32", "fixed", "right", "matrix", "finite") is None


def test_needs_that_have_two_reasons() -> None:
    refusal = only(graph_of("y = Gemm<transA = 1>(x, w)")).refusal("right")
    assert refusal is not None and "transA" in refusal.reason
    refusal = only(graph_of("c = Cast<to = 1>(i) v = Mul(c, s) y = MatMul(x, v)")).refusal(
        "float32"
    )
    assert refusal is not None and "less than float32" in refusal.reason


PLAIN = "not a constant of one value per output channel"
PORTS = "(float[2, 6] x, float[4] c) => (float[2, 4] y)"


@pytest.mark.parametrize(
    ("body", "ports", "listed", "reason"),
    [
        ("y = Gemm(x, w, c)", PORTS, "", PLAIN),
        ("y = Gemm(x, w, column)", ROWS, "", PLAIN),
        ("v = DequantizeLinear(i4, s) y = Gemm(x, w, v)", ROWS, "", PLAIN),
        ("y = Gemm(x, half, four)", ROWS, "", ""),
        ("y = Gemm(x, w, infinite)", ROWS, "", "its bias holds NaN"),
        ("y = Gemm(x, w, b)", ROWS, "b", "its bias is listed as an input; put freeze-initializers"),
        ("m = MatMul(x, w) y = Add(m, b)", ROWS, "b", "its bias is listed as an input"),
        ("y = Gemm(x, w, b)", ROWS, "", ""),
        ("y = Gemm(x, w, s)", ROWS, "", ""),
        ("y = Gemm(x, w)", ROWS, "", ""),
        ("y = MatMul(x, w)", ROWS, "", ""),
    ],
)
def test_what_is_a_plain_bias(
    body: str, ports: str, listed: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONSTANTS, "four", np.ones(4, np.float16))
    monkeypatch.setitem(CONSTANTS, "column", np.ones((2, 1), np.float32))
    monkeypatch.setitem(CONSTANTS, "infinite", np.full(4, np.inf, np.float32))
    monkeypatch.setitem(CONSTANTS, "i4", np.arange(4, dtype=np.int32))
    refusal = only(graph_of(body, ports, listed)).refusal("bias")
    assert (refusal is not None and reason in refusal.reason) if reason else refusal is None


def test_a_bias_of_other_floats_is_none_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONSTANTS, "four", np.ones(4, np.float16))
    refusal = only(graph_of("y = Gemm(x, half, four)", ROWS)).refusal("float32 bias")
    assert refusal is not None
    assert refusal.reason == "its bias is float16, not float; put convert-to-float32 before"
    assert only(graph_of("y = Gemm(x, w, b)", ROWS)).refusal("float32 bias") is None
    assert only(graph_of("y = Gemm(x, w)", ROWS)).refusal("float32 bias") is None
    refusal = only(graph_of("y = Gemm(x, w, b)", ROWS, "b")).refusal("float32 bias")
    assert refusal is not None and "listed as an input" in refusal.reason


def test_a_reshaped_weight_is_one_that_nobody_can_use() -> None:
    one = only(graph_of("v = Reshape(flat, size) y = MatMul(x, v)"))
    assert one.weight.values().shape == (6, 4)
    refusal = one.refusal()
    assert refusal is not None and "Reshape stands" in refusal.reason


def test_what_effective_refuses() -> None:
    computed = "(float[2, 6] x, float[4] c) => (float[2, 4] y)"
    found = only(graph_of("y = Gemm(x, w, c)", computed)).effective()
    assert isinstance(found, Refusal) and "its bias is computed at run time" in found.reason
    matrix = only(
        Graph(
            model_from_text(
                f'<ir_version: 8, opset_import: ["" : 13]> g {ROWS} {{ y = Gemm(x, w, c) }}',
                {"w": (6, 4), "c": (2, 4)},
            )
        )
    ).effective()
    assert isinstance(matrix, Refusal) and "[2, 4]" in matrix.reason
    listed = only(graph_of("y = Gemm(x, w, b)", listed="b")).effective()
    assert isinstance(listed, Refusal) and "its bias is listed" in listed.reason


def test_tables_and_recurrent_weights_are_layers_too() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (int64[5, 1] i) => (float[5, 1, 1, 3] y, float[6, 5, 1] u) {
      e = Gather(table, i) u = Gather<axis = -1>(table, i)
      y = LSTM<hidden_size = 3>(e, w, r)
    }"""
    shapes: dict[str, Any] = {"table": (6, 4), "w": (1, 12, 4), "r": (1, 12, 3)}
    graph = Graph(model_from_text(text, shapes))
    kinds = [
        (one.kind, one.weight.index, one.weight.constant.origin, one.out_axis)
        for one in layers(graph)
        if isinstance(one, Layer)
    ]
    assert kinds == [
        ("table", 0, "table", 0),
        ("table", 0, "table", 1),
        ("recurrent", 1, "w", 1),
        ("recurrent", 2, "r", 1),
    ]


def test_bodies_capture_the_weights_around_them() -> None:
    body = """y = If(c) <
      then_branch = one () => (float[2, 4] p) { v = Transpose(t) p = MatMul(x, v) },
      else_branch = two () => (float[2, 4] q) { q = MatMul(x, w) } >"""
    graph = graph_of(body, "(float[2, 6] x, bool c) => (float[2, 4] y)")
    first, second = (one for one in layers(graph) if isinstance(one, Layer))
    assert first.scope is not graph.main
    assert first.weight.constant.scope is graph.main
    assert (first.out_axis, second.out_axis) == (0, 1)
    assert first.owned_by([first.node])
    assert list(layers(graph.main)) == []


def test_bodies_capture_what_is_expanded_around_them() -> None:
    body = """v = DequantizeLinear(i, s) y = If(c) <
      then_branch = one () => (float[2, 4] p) { p = MatMul(x, v) },
      else_branch = two () => (float[2, 4] q) { q = Relu(h) } >"""
    graph = graph_of(body, "(float[2, 6] x, float[2, 4] h, bool c) => (float[2, 4] y)")
    one = only(graph)
    assert (one.weight.form, one.weight.constant.origin) == ("dequantized", "i")
    assert one.weight.dequantizer is not None and one.weight.dequantizer.scope is graph.main


def test_who_else_reads_a_weight() -> None:
    ports = "(float[2, 6] x, int64[3] i) => (float y, float[3, 6] z, float[2, 4] u)"
    body = "v = Transpose(t) p = MatMul(x, v) y = Relu(p) z = Gather(t, i) u = MatMul(x, w)"
    tied, table, alone = layers(graph_of(body, ports))
    assert isinstance(tied, Layer) and isinstance(table, Layer) and isinstance(alone, Layer)
    assert [label(use.node) for use in tied.weight.readers] == ["MatMul(p)", "Gather(z)"]
    assert not tied.owned_by([tied.node])
    assert tied.owned_by([tied.node, table.node])
    assert alone.owned_by([alone.node])
    handed = only(graph_of("v = Transpose(t) y = MatMul(x, v)", ROWS[:-1] + ", float[6, 4] v)"))
    assert handed.weight.given_out and not handed.owned_by([handed.node])
    assert not only(graph_of("y = MatMul(x, w)", listed="w")).owned_by([])


@pytest.mark.parametrize("body", ["y = MatMul(x, w)", "v = Transpose(t) y = MatMul(x, v)"])
def test_scaling_channels_multiplies_the_matrix(body: str) -> None:
    one = only(graph_of(body))
    before = one.matrix()
    outs, ins = np.arange(1, 5, dtype=np.float32), np.arange(1, 7, dtype=np.float32)
    one.scale("out", outs)
    one = only(one.scope)
    one.scale("in", ins)
    np.testing.assert_allclose(only(one.scope).matrix(), before * outs * ins[:, None], rtol=1e-6)


INTEGER = {
    "MatMulNBits": (
        "y = com.microsoft.MatMulNBits<K = 32, N = 4, bits = 4, block_size = 32>(x, packed, s4)",
        0,
    ),
    "QLinearMatMul": (
        "q = QuantizeLinear(x, s, z) p = QLinearMatMul(q, s, z, i, s, o, s, z)"
        " y = DequantizeLinear(p, s, z)",
        1,
    ),
    "ConvInteger": ("q = Cast<to = 2>(x) p = ConvInteger(q, kernel) y = Cast<to = 1>(p)", 0),
}


@pytest.mark.parametrize("op_type", INTEGER)
def test_operators_on_integers_by_definition(op_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONSTANTS, "packed", np.ones((4, 1, 16), np.uint8))
    monkeypatch.setitem(CONSTANTS, "o", np.asarray(0, np.int8))
    body, out_axis = INTEGER[op_type]
    one = only(graph_of(body, IMAGE))
    assert (one.node.op_type, one.weight.form, one.out_axis) == (op_type, "integer", out_axis)
    refusal = one.refusal("float")
    assert refusal is not None and "quantized already" in refusal.reason


def test_layers_whose_weight_is_stored_as_floats() -> None:
    body = "a = MatMul(x, w) v = DequantizeLinear(i, s) b = MatMul(x, v) y = Add(a, b)"
    graph = graph_of(body)
    assert [label(each.node) for each in float_layers(graph)] == ["MatMul(a)"]


def test_an_integer_product_of_activations_is_no_layer() -> None:
    body = "q = Cast<to = 2>(x) p = MatMulInteger(q, q) y = Cast<to = 1>(p)"
    (found,) = layers(graph_of(body))
    assert isinstance(found, Refusal)


@pytest.mark.parametrize(
    ("body", "ports", "words"),
    [
        ("y = Conv(x, vector)", IMAGE, "its weight of shape [6] has too few axes"),
        ("y = Conv<group = 0>(x, k)", IMAGE, "it has 0 groups"),
        ("y = Conv<group = -2>(x, k)", IMAGE, "it has -2 groups"),
        ("y = ConvInteger<group = -1>(x, kernel)", IMAGE, "it has -1 groups"),
    ],
)
def test_what_cannot_be_the_weight_of_a_layer(body: str, ports: str, words: str) -> None:
    (found,) = layers(graph_of(body, ports))
    assert isinstance(found, Refusal) and found.reason == words


def test_an_add_behind_a_reshaped_weight_is_no_bias() -> None:
    body = "v = Reshape(flat, size) m = MatMul(x, v) y = Add(m, b)"
    assert only(graph_of(body, ROWS)).bias is None


def test_a_weight_that_alpha_makes_infinite_is_not_finite() -> None:
    one = only(graph_of(f"y = Gemm<alpha = {'9' * 38}.0>(x, huge)", ROWS))
    assert one.refusal("finite") is not None
    assert only(graph_of("y = Gemm<alpha = 2.0>(x, w)", ROWS)).refusal("finite") is None


def test_an_infinite_alpha_makes_no_layer() -> None:
    graph = graph_of("y = Gemm<alpha = 2.0>(x, w)", ROWS)
    graph.main.nodes[0].attribute[0].f = float("-inf")
    (found,) = layers(graph)
    assert isinstance(found, Refusal) and found.reason == "its alpha is -inf and its beta 1.0"
