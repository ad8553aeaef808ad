"""Weights and biases as integers: what the kernels need to be exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.facts.layers import Layer, layers
from graphopt.graph import check
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import label
from graphopt.numerics import saturation
from graphopt.rewrite import qdq
from graphopt.rewrite.integer_layers import (
    WeightGrid,
    bias_step,
    kernel_matrix,
    set_integer_weight,
    set_quantized_bias,
    shift_quantized_bias,
)
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

Floats = NDArray[np.float32]

RNG = np.random.default_rng(3)
PLAIN = WeightGrid(per_channel=True, method="max", saturates=False)
IMAGE = "(float[1, 4, 6, 6] x) => (float[1, 8, 6, 6] y)"
ROWS = "(float[2, 16] x) => (float[2, 8] y)"


def floats(*shape: int) -> Floats:
    return RNG.normal(size=shape).astype(np.float32)


def graph_of(body: str, ports: str, **constants: Any) -> Graph:
    head = '<ir_version: 8, opset_import: ["" : 13]>'
    return Graph(model_from_text(f"{head} g {ports} {{ {body} }}", constants))


def only(graph: Graph) -> Layer:
    (layer,) = layers(graph.main)
    assert isinstance(layer, Layer)
    return layer


def convert(
    graph: Graph, input_scale: float = 0.02, grid: WeightGrid = PLAIN
) -> tuple[Floats, int, dict[str, NDArray[Any]]]:
    """Make the graph's one layer integer; its scales, raised ones, and all constants by name."""
    scales, raised = set_integer_weight(only(graph), input_scale, grid)
    values = {name: graph.read(tensor) for name, tensor in graph.main.initializers.items()}
    assert check.problems(graph) == []
    return scales, raised, values


CONV = "y = Conv(x, w, b)"


def test_weight_and_bias_of_a_convolution() -> None:
    w, b = floats(8, 4, 1, 1), floats(8)
    graph = graph_of(CONV, IMAGE, w=w, b=b)
    scales, raised, values = convert(graph)
    assert raised == 0
    assert set(values) == {
        "w_quantized", "w_scale", "w_zero_point", "b_quantized", "b_scale",
    }  # fmt: skip
    assert [values[name].dtype for name in values] == [
        np.int8, np.float32, np.int8, np.int32, np.float32,
    ]  # fmt: skip
    np.testing.assert_array_equal(values["w_scale"], scales)
    np.testing.assert_allclose(scales, np.abs(w).max((1, 2, 3)) / 127, rtol=1e-6)
    assert (np.abs(values["w_quantized"]).max((1, 2, 3)) == 127).all()
    assert not values["w_zero_point"].any()
    restored = values["w_quantized"] * scales[:, None, None, None]
    assert (np.abs(restored - w) <= scales[:, None, None, None] * 0.5001).all()
    axes = [
        [(a.name, a.i) for a in node.attribute]
        for node in graph.main.nodes
        if node.op_type == "DequantizeLinear"
    ]
    assert axes == [[("axis", 0)], [("axis", 0)]]


def test_the_bias_has_exactly_the_scale_of_the_sums() -> None:
    b = floats(8) * 100
    scales, _, values = convert(graph_of(CONV, IMAGE, w=floats(8, 4, 1, 1), b=b), 0.0123)
    np.testing.assert_array_equal(values["b_scale"], scales * np.float32(0.0123))
    steps = b.astype(np.float64) / values["b_scale"]
    np.testing.assert_array_equal(values["b_quantized"], np.rint(steps))


def test_a_bias_beyond_32_bits_raises_the_scale_of_its_channel_only() -> None:
    w, b = floats(8, 4, 1, 1), floats(8)
    w[2] *= 1e-9
    b[2], b[5] = -7.0, 0.0
    scales, _, values = convert(graph_of(CONV, IMAGE, w=w, b=b), 1e-3)
    peaks = np.abs(w).max((1, 2, 3)) / 127
    np.testing.assert_allclose(np.delete(scales, 2), np.delete(peaks, 2), rtol=1e-6)
    assert scales[2] > 2 * peaks[2]
    restored = values["b_quantized"].astype(np.float64) * values["b_scale"]
    assert restored[2] == pytest.approx(-7, rel=1e-6)
    assert -(2**31) < values["b_quantized"][2] < -(2**31) * 0.99
    np.testing.assert_array_equal(values["b_scale"], scales * np.float32(1e-3))


def test_a_dead_channel_keeps_a_fine_bias() -> None:
    w, b = floats(8, 4, 1, 1), floats(8)
    w[3] = 0
    _, _, values = convert(graph_of(CONV, IMAGE, w=w, b=b))
    restored = values["b_quantized"] * values["b_scale"].astype(np.float64)
    assert np.abs(restored - b).max() < 1e-4


def test_one_scale_for_the_tensor_is_rank_0() -> None:
    w, b = floats(8, 4, 1, 1), floats(8)
    grid = WeightGrid(per_channel=False, method="max", saturates=False)
    scales, _, values = convert(graph_of(CONV, IMAGE, w=w, b=b), 0.02, grid)
    assert scales.shape == values["w_zero_point"].shape == values["b_scale"].shape == ()
    assert values["b_scale"] == np.float32(np.abs(w).max() / 127) * np.float32(0.02)


def test_the_largest_bias_decides_for_all_with_one_scale() -> None:
    w, b = floats(8, 4, 1, 1) * np.float32(1e-9), floats(8)
    grid = WeightGrid(per_channel=False, method="max", saturates=False)
    _, _, values = convert(graph_of(CONV, IMAGE, w=w, b=b), 1e-3, grid)
    restored = values["b_quantized"] * values["b_scale"].astype(np.float64)
    np.testing.assert_allclose(restored, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("shape", [(8,), (1, 8), (1,), ()])
def test_gemm_factors_go_into_the_constants(transposed: int, shape: tuple[int, ...]) -> None:
    w, b = floats(16, 8), np.asarray(RNG.normal(size=shape), np.float32)
    body = f"y = Gemm<alpha = -0.5, beta = 3.0, transB = {transposed}>(x, w, b)"
    graph = graph_of(body, ROWS, w=w.T.copy() if transposed else w, b=b)
    x = floats(2, 16)
    expected = Session(graph).run({"x": x})["y"]
    scales, _, values = convert(graph)
    gemm = graph.main.nodes[-1]
    assert [(a.name, a.i) for a in gemm.attribute] == [("transB", transposed)]
    np.testing.assert_allclose(scales, np.abs(w).max(0) * 0.5 / 127, rtol=1e-6)
    assert values["b_quantized"].shape == (8,)
    restored = values["b_quantized"] * values["b_scale"].astype(np.float64)
    np.testing.assert_allclose(restored, np.broadcast_to(3 * b.ravel(), 8), atol=1e-3)
    actual = Session(graph, level="off").run({"x": x})["y"]
    bound = 0.5001 * np.abs(x).sum(1, keepdims=True) * scales + 1e-3
    assert (np.abs(actual - expected) <= bound).all()


def test_the_bias_of_a_matmul_is_that_of_the_add_behind() -> None:
    graph = graph_of("m = MatMul(x, w) y = Add(b, m)", ROWS, w=floats(16, 8), b=floats(8))
    _, _, values = convert(graph)
    assert values["w_quantized"].shape == (16, 8)
    assert values["b_quantized"].dtype == np.int32
    add = graph.main.nodes[-1]
    assert list(add.input) == ["b_dequantized", "m"]


@pytest.mark.parametrize(
    ("body", "ports", "constants"),
    [
        ("m = MatMul(x, w) a = Add(m, b) y = Add(a, m)", ROWS, {"b": (8,)}),
        ("m = MatMul(x, w) y = Add(m, b)", ROWS, {"b": (2, 8)}),
        ("m = MatMul(x, w) y = Add(m, b)", ROWS, {"b": np.full(8, np.inf, np.float32)}),
        ("m = MatMul(x, w) y = Sub(m, b)", ROWS, {"b": (8,)}),
        ("m = MatMul(x, w) y = Add(m, m)", ROWS, {}),
        ("y = MatMul(x, w)", ROWS, {}),
        ("m = MatMul(x, w) y = Add(m, b)", ROWS[:-1] + ", float[2, 8] m)", {"b": (8,)}),
        ("m = MatMul(x, w) y = Add(m, b)", "(float[2, 16] x, float[8] b) => (float[2, 8] y)", {}),
    ],
    ids=["two readers", "a matrix", "infinite", "Sub", "itself", "none", "output", "computed"],
)
def test_what_is_no_bias_of_a_matmul(body: str, ports: str, constants: dict[str, Any]) -> None:
    graph = graph_of(body, ports, w=floats(16, 8), **constants)
    _, _, values = convert(graph)
    assert not any(item.dtype == np.int32 for item in values.values())


def test_a_bias_that_a_caller_may_replace_stays() -> None:
    graph = graph_of("m = MatMul(x, w) y = Add(m, b)", ROWS, w=floats(16, 8), b=(8,))
    graph.main.proto.input.append(onnx.helper.make_tensor_value_info("b", 1, [8]))
    _, _, values = convert(graph)
    assert "b" in values


def test_what_others_read_is_copied() -> None:
    body = "c = Conv(x, w, b) s = Mul(b, b) t = Reshape(s, k) y = Add(c, t)"
    constants = {"w": floats(8, 4, 1, 1), "b": floats(8), "k": np.array([1, 8, 1, 1])}
    _, _, values = convert(graph_of(body, IMAGE, **constants))
    assert {"b", "b_quantized", "w_quantized"} <= set(values)
    assert "w" not in values


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    ("body", "ports", "shape"),
    [
        ("y = Conv(x, w)", IMAGE, (8, 4, 3, 3)),
        ("y = Conv<group = 2>(x, w)", IMAGE, (8, 2, 3, 3)),
        ("y = Gemm(x, w)", ROWS, (16, 8)),
        ("y = Gemm<transB = 1>(x, w)", ROWS, (8, 16)),
        ("y = MatMul(x, w)", ROWS, (16, 8)),
    ],
    ids=["Conv", "grouped", "Gemm", "transB", "MatMul"],
)
def test_no_pair_can_overflow(
    body: str, ports: str, shape: tuple[int, ...], per_channel: bool
) -> None:
    w = RNG.uniform(-1, 1, shape).astype(np.float32)
    ports = ports.replace("8, 6, 6] y", "8, 4, 4] y") if len(shape) == 4 else ports

    def codes(saturates: bool) -> tuple[NDArray[Any], int, Floats]:
        graph = graph_of(body, ports, w=w)
        layer = only(graph)
        grid = WeightGrid(per_channel, "max", saturates)
        scales, raised = set_integer_weight(layer, 0.02, grid)
        stored = graph.read(graph.main.initializers["w_quantized"])
        return kernel_matrix(layer, stored), raised, scales

    exact, none, fine = codes(saturates=False)
    assert saturation.unsafe_channels(exact).any()
    assert none == 0
    safe, raised, coarse = codes(saturates=True)
    assert not saturation.unsafe_channels(safe).any()
    assert raised == saturation.unsafe_channels(exact).sum()
    assert (coarse >= fine).all()
    assert (coarse < 2.1 * fine).all()


def test_depthwise_kernels_do_not_add_in_pairs() -> None:
    body = "y = Conv<group = 4>(x, w)"
    w = np.ones((8, 1, 1, 1), np.float32)
    grid = WeightGrid(per_channel=True, method="max", saturates=True)
    _, raised, values = convert(graph_of(body, IMAGE, w=w), 0.02, grid)
    assert raised == 0
    assert (values["w_quantized"] == 127).all()


def test_ranges_may_clip() -> None:
    w = RNG.normal(size=(8, 4, 30, 30)).astype(np.float32)
    ports = IMAGE.replace("6, 6]", "40, 40]", 1).replace("6, 6]", "11, 11]")
    largest = convert(graph_of("y = Conv(x, w)", ports, w=w))[0]
    grid = WeightGrid(per_channel=True, method="mse", saturates=False)
    assert (convert(graph_of("y = Conv(x, w)", ports, w=w), 0.02, grid)[0] < largest).any()


def test_a_layer_without_bias_gets_one() -> None:
    graph = graph_of("y = Conv(x, w)", IMAGE, w=floats(8, 4, 1, 1))
    scale = np.full(8, 1e-3, np.float32)
    bias = np.linspace(-1, 1, 8)
    set_quantized_bias(graph.main, graph.main.nodes[-1], 2, bias, scale)
    assert list(graph.main.nodes[-1].input) == ["x", "w", "y_bias_dequantized"]
    stored = graph.read(graph.main.initializers["y_bias_quantized"])
    np.testing.assert_array_equal(stored, np.rint(bias / np.float64(np.float32(1e-3))))
    assert stored.dtype == np.int32


def steps(scope: Scope) -> dict[str, Any]:
    """The step of the bias of each layer on integers, by the label of its node."""
    found = {label(each.node): bias_step(each) for each in layers(scope) if isinstance(each, Layer)}
    return {name: step for name, step in found.items() if step is not None}


def test_integer_layers_are_found_again() -> None:
    body = "[c] h = Conv(x, w, b) f = Flatten(h) [m] p = MatMul(f, k) [a] y = Add(p, d)"
    ports = IMAGE.replace("[1, 8, 6, 6]", "[1, 5]")
    graph = graph_of(body, ports, w=(8, 4, 1, 1), b=(8,), k=(288, 5), d=(5,))
    scope = graph.main
    assert steps(scope) == {}
    scales = []
    for layer in list(layers(scope)):
        assert isinstance(layer, Layer)
        scales.append(set_integer_weight(layer, 0.5, PLAIN)[0])
    assert steps(scope) == {}  # float activations: no integer kernel takes them
    for tensor in ("x", "f"):
        qdq.add_quantize_dequantize(scope, tensor, 0.5, 128)
    assert list(steps(scope)) == ["c", "m"]
    for step, scale in zip(steps(scope).values(), scales, strict=True):
        np.testing.assert_array_equal(step, scale * np.float32(0.5))
    for layer, name in zip(layers(scope), ("c", "a"), strict=True):
        assert isinstance(layer, Layer)
        assert layer.bias is not None and layer.bias.node.name == name
        assert layer.bias.constant.data_type == onnx.TensorProto.INT32


def test_a_weight_behind_a_transpose_is_stored_as_the_node_reads_it() -> None:
    graph = graph_of("t = Transpose(w) y = MatMul(x, t)", ROWS, w=(8, 16))
    x = floats(2, 16)
    expected = Session(graph).run({"x": x})["y"]
    matrix = only(graph).matrix()
    scales, _, values = convert(graph)
    assert (set(values), values["w_quantized"].shape) == (
        {"w_quantized", "w_scale", "w_zero_point"},
        (16, 8),
    )
    np.testing.assert_allclose(scales, np.abs(matrix).max(0) / 127, rtol=1e-6)
    actual = Session(graph, level="off").run({"x": x})["y"]
    assert (np.abs(actual - expected) <= 0.51 * np.abs(x).sum(1, keepdims=True) * scales).all()


def test_a_float_bias_that_an_integer_kernel_adds_is_shifted_in_floats() -> None:
    graph = graph_of("y = Conv(x, w, b)", IMAGE, w=(8, 4, 1, 1), b=(8,))
    before = graph.read(graph.main.initializers["b"]).copy()
    set_integer_weight(only(graph), 0.5, replace(PLAIN, bias="float"))
    qdq.add_quantize_dequantize(graph.main, "x", 0.5, 128)
    layer = only(graph)
    assert layer.bias is not None
    assert (layer.bias.form, layer.bias.constant.name) == ("float", "b")
    step, shift = bias_step(layer), np.arange(8.0)
    assert step is not None
    shift_quantized_bias(layer, step, shift)
    np.testing.assert_allclose(graph.read(graph.main.initializers["b"]), before + shift, rtol=1e-6)


def test_a_bias_that_is_computed_has_no_step() -> None:
    ports = "(float[1, 4, 5, 5] x, float[8] b) => (float[1, 8, 5, 5] y)"
    graph = graph_of("y = Conv(x, w)", ports, w=(8, 4, 1, 1))
    set_integer_weight(only(graph), 0.5, PLAIN)
    qdq.add_quantize_dequantize(graph.main, "x", 0.5, 128)
    assert list(steps(graph.main)) == ["Conv(y)"]
    graph.main.set_input(graph.main.nodes[-1], 2, "b")
    assert steps(graph.main) == {}


@pytest.mark.parametrize(
    "scale", [np.float32(0.5), np.full(16, 0.5, np.float32)], ids=["one", "out"]
)
def test_biases_with_zero_points_share_their_zeros(scale: Floats) -> None:
    graph = graph_of(
        "h = Conv(x, w, b)  y = Conv(h, v, c)",
        "(float[1, 4, 5, 5] x) => (float[1, 16, 5, 5] y)",
        w=(16, 4, 1, 1), b=(16,), v=(16, 16, 1, 1), c=(16,),
    )  # fmt: skip
    values = {name: graph.read(graph.main.initializers[name]).copy() for name in ("b", "c")}
    for node in list(graph.main.nodes):
        bias = values[node.input[2]].astype(np.float64)
        set_quantized_bias(graph.main, node, 2, bias, scale, "int32+zero")
    made = [node for node in graph.main.nodes if node.op_type == "DequantizeLinear"]
    zeros = [graph.main.constant(node.input[2]) for node in made]
    for zero, codes in zip(
        zeros, (graph.main.constant(node.input[0]) for node in made), strict=True
    ):
        assert zero is not None
        assert codes is not None
        assert zero.values.dtype == codes.values.dtype == np.int32
        assert zero.shape == scale.shape
        assert not zero.values.any()
    shared = made[0].input[2] == made[1].input[2]
    assert shared is (scale.ndim == 1)


def test_a_product_of_activations_is_no_layer() -> None:
    ports = "(float[4, 4] x) => (float[4, 4] y)"
    graph = graph_of("a = Relu(x) y = MatMul(x, a)", ports)
    for tensor in ("x", "a"):
        qdq.add_quantize_dequantize(graph.main, tensor, 0.5, 128)
    assert steps(graph.main) == {}
