"""quantize-weights in blocks and below eight bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.analysis.audit import audit
from graphopt.errors import PassError
from graphopt.facts.coded import CodedWeight, coded_weight
from graphopt.facts.cost import params, zeros
from graphopt.facts.layers import Layer, layers
from graphopt.graph.graph import Graph
from graphopt.numerics.block_grids import block_grid
from graphopt.numerics.grids import CODE_TYPES, CodeName
from graphopt.passes.quantize import QuantizeWeights
from graphopt.runtime.optimized import optimize
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

ApplyPass = Callable[..., Any]
Method = Literal["max", "mse"]
KINDS: list[CodeName] = ["int8", "uint8", "int4", "uint4", "int2", "uint2"]
LEVEL_4 = 0.03  # MatMulNBits rounds what it reads to int8 in blocks


def weights(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(4).normal(size=shape).astype(np.float32)


def model_of(body: str, shape: str, opset: int = 21, **values: NDArray[Any]) -> onnx.ModelProto:
    version = 13 if opset > 24 else 10
    text = f'<ir_version: {version}, opset_import: ["" : {opset}]> g ({shape}) => (float[?] y)'
    model = model_from_text(f"{text.replace('?', 'n, m')} {{ {body} }}", values)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(model)


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph.main.nodes)


def read_weight(graph: Graph) -> NDArray[Any]:
    (one,) = (each for each in layers(graph) if isinstance(each, Layer))
    return one.weight.values()


def running(graph: Graph) -> set[str]:
    return {node.op_type for node in optimize(graph, 1).node}


IMAGE = "float[n, 16, 5, 5] x"
LAYERS = {
    "matmul": ("y = MatMul(x, w)", "float[n, 100] x", (100, 24), (32, 1), (3, 100)),
    "left": ("y = MatMul(w, x)", "float[100, n] x", (24, 100), (1, 32), (100, 3)),
    "batches": ("y = MatMul(x, w)", "float[2, n, 64] x", (2, 64, 24), (2, 16, 1), (2, 3, 64)),
    "gemm": ("y = Gemm(x, w)", "float[n, 100] x", (100, 24), (32, 1), (3, 100)),
    "turned": ("y = Gemm<transB=1>(x, w)", "float[n, 64] x", (24, 64), (1, 32), (3, 64)),
    "moved": ("t = Transpose(w) y = MatMul(x, t)", "float[n, 64] x", (24, 64), (1, 32), (3, 64)),
    "conv": ("y = Conv(x, w)", IMAGE, (16, 16, 3, 3), (1, 3, 3, 3), (1, 16, 5, 5)),
    "grouped": ("y = Conv<group=2>(x, w)", IMAGE, (16, 8, 3, 3), (1, 3, 3, 3), (1, 16, 5, 5)),
    "deconv": ("y = ConvTranspose(x, w)", IMAGE, (16, 16, 3, 3), (3, 1, 3, 3), (1, 16, 5, 5)),
}
FOLDED = {"MatMul", "FusedMatMul", "Gemm", "Conv", "ConvTranspose", "ReorderInput", "ReorderOutput"}


@pytest.mark.parametrize("kind", ["int8", "uint4"])
@pytest.mark.parametrize("layer", LAYERS)
def test_layers_read_what_brute_force_makes_of_their_blocks(
    apply_pass: ApplyPass, layer: str, kind: CodeName
) -> None:
    body, given, shape, block, feed = LAYERS[layer]
    values = weights(*shape)
    model = model_of(body, given, w=values)
    item = QuantizeWeights(
        weight_type=kind,  # type: ignore[arg-type]
        block_size=32,
        form="expanded",
        scales="float16",
    )
    graph, record = apply_pass(model, item)
    method: Method = "max" if kind == "int8" else "mse"
    grid = block_grid(values, block, CODE_TYPES[kind], method, half=True)
    made = read_weight(graph)
    expected = grid.values().T if layer == "moved" else grid.values()
    np.testing.assert_allclose(made, expected, rtol=1e-6)
    assert f"{grid.scale.size} scales, one for every" in record.changes[0].what
    x = np.random.default_rng(1).normal(size=feed).astype(np.float32)
    floats = Graph(model_of(body, given, w=grid.values()))
    np.testing.assert_allclose(
        Session(graph).run({"x": x})["y"], Session(floats).run({"x": x})["y"], atol=1e-3
    )
    assert running(graph) <= FOLDED
    assert params(graph) == values.size


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["expanded", "dequantized"])
@pytest.mark.parametrize("scales", ["float32", "float16"])
def test_every_type_in_every_form(
    apply_pass: ApplyPass, kind: CodeName, form: Any, scales: Any
) -> None:
    values = weights(96, 32)
    opset = 25 if CODE_TYPES[kind].bits == 2 else 21
    model = model_of("y = MatMul(x, w)", "float[n, 96] x", opset, w=values)
    item = QuantizeWeights(weight_type=kind, form=form, scales=scales, block_size=32)  # type: ignore[arg-type]
    graph, _ = apply_pass(model, item)
    assert str(graph.read(graph.main.initializers["w_quantized"]).dtype) == kind
    assert graph.read(graph.main.initializers["w_scale"]).dtype == np.dtype(scales)
    method: Method = "max" if CODE_TYPES[kind].bits == 8 else "mse"
    grid = block_grid(values, (32, 1), CODE_TYPES[kind], method, half=scales == "float16")
    np.testing.assert_allclose(read_weight(graph), grid.values(), rtol=1e-6)
    x = np.random.default_rng(1).normal(size=(4, 96)).astype(np.float32)
    result, expected = Session(graph).run({"x": x})["y"], x @ grid.values()
    tolerance = LEVEL_4 if form == "dequantized" else 1e-4
    np.testing.assert_allclose(result, expected, atol=tolerance * np.abs(expected).max())
    assert ("DequantizeLinear" in operators(graph)) is (form == "dequantized")
    zero_points = "w_zero_point" in graph.main.initializers
    assert zero_points is (CODE_TYPES[kind].qmin == 0)
    _, again = apply_pass(graph.to_model(), item)
    assert again.status == "nothing to do"


FAST = {
    "a product": ("y = MatMul(x, w)", (128, 64), True),
    "a Gemm": ("y = Gemm(x, w)", (128, 64), True),
    "a Gemm that turns it": ("y = Gemm<transB=1>(x, w)", (64, 128), False),
    "a factor": ("y = Gemm<alpha=0.5>(x, w)", (128, 64), False),
    "the left operand": ("t = Transpose(x) y = MatMul(w, t)", (64, 128), False),
    "read twice": ("a = MatMul(x, w) s = Sin(x) b = MatMul(s, w) y = Add(a, b)", (128, 64), False),
    "one block": ("y = MatMul(x, w)", (32, 64), False),
}


@pytest.mark.parametrize("case", FAST)
def test_products_that_run_faster_on_codes_do(apply_pass: ApplyPass, case: str) -> None:
    body, shape, fast = FAST[case]
    width = 32 if shape[0] == 32 else 128
    model = model_of(body, f"float[n, {width}] x", w=weights(*shape))
    item = QuantizeWeights(weight_type="int4", block_size=32)
    graph, _ = apply_pass(model, item, target="x86-vnni")
    assert ("DequantizeLinear" in operators(graph)) is fast
    assert ("MatMulNBits" in running(graph)) is fast
    integer = [entry.kernel for entry in audit(graph).integer]
    assert integer == (["MatMulNBits"] if fast else [])
    graph, _ = apply_pass(model, item, target="x86-avx2")
    assert "DequantizeLinear" not in operators(graph)


@pytest.mark.parametrize("layer", ["matmul", "turned"])
def test_runtimes_of_others_get_the_operator_of_the_standard(
    apply_pass: ApplyPass, layer: str
) -> None:
    body, given, shape, block, feed = LAYERS[layer]
    model = model_of(body, given, w=weights(*shape))
    for kind, dequantizes in (("int4", True), ("int8", False)):
        item = QuantizeWeights(weight_type=kind, block_size=32)  # type: ignore[arg-type]
        graph, _ = apply_pass(model, item, target="generic")
        assert ("DequantizeLinear" in operators(graph)) is dequantizes
        x = np.random.default_rng(1).normal(size=feed).astype(np.float32)
        method: Method = "mse" if dequantizes else "max"
        grid = block_grid(weights(*shape), block, CODE_TYPES[kind], method, half=True)  # type: ignore[index]
        expected = Session(Graph(model_of(body, given, w=grid.values()))).run({"x": x})["y"]
        result = Session(graph).run({"x": x})["y"]
        np.testing.assert_allclose(result, expected, atol=LEVEL_4 * np.abs(expected).max())


def test_sizes_of_blocks_that_are_slower_than_floats_are_expanded(apply_pass: ApplyPass) -> None:
    model = model_of("y = MatMul(x, w)", "float[n, 256] x", w=weights(256, 64))
    for size, fast in ((100, False), (128, True)):
        item = QuantizeWeights(weight_type="int4", block_size=size)
        graph, _ = apply_pass(model, item, target="x86-vnni")
        assert ("DequantizeLinear" in operators(graph)) is fast


TABLE = ("y = Gather(table, ids)", "int64[n, m] ids")


@pytest.mark.parametrize("kind", ["int4", "uint4", "int2", "uint2"])
@pytest.mark.parametrize(("length", "block", "made"), [(96, 32, 32), (96, None, 32), (40, 0, 64)])
def test_rows_below_eight_bits_are_packed(
    apply_pass: ApplyPass, kind: CodeName, length: int, block: int | None, made: int
) -> None:
    values, codes = weights(200, length), CODE_TYPES[kind]
    if block is None and codes.bits == 4:
        made = 64
    model = model_of(*TABLE, 25 if codes.bits == 2 else 21, table=values)
    item = QuantizeWeights(weight_type=kind, block_size=block)  # type: ignore[arg-type]
    graph, record = apply_pass(model, item, target="x86-avx2")
    assert f"table stored as {kind}" in record.changes[0].what
    (node,) = (each for each in graph.main.nodes if each.op_type == "GatherBlockQuantized")
    held = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    assert (held["bits"], held["block_size"]) == (codes.bits, made)
    assert graph.read(graph.main.initializers["table_quantized"]).dtype == np.uint8
    ids = np.array([[0, 199], [7, 7]])
    expected = block_grid(values, (1, made), codes, half=True).values()[ids]
    np.testing.assert_allclose(Session(graph).run({"ids": ids})["y"], expected, atol=1e-5)
    assert params(graph) == values.size
    grid = block_grid(values, (1, made), codes, half=True)
    assert zeros(graph).count == int((grid.values() == 0).sum())
    assert not audit(graph).integer and not audit(graph).float_
    _, again = apply_pass(graph.to_model(), item, target="x86-avx2")
    assert again.status == "nothing to do"


TIED = "e = Gather(table, ids) t = Transpose(table) y = MatMul(e, t)"
ODD = {
    "a target without it": (TABLE[0], TABLE[1], (200, 96), "generic"),
    "rows of odd length": (TABLE[0], TABLE[1], (200, 95), "x86-vnni"),
    "a slice": ("y = Slice(table, z, n, z)", "int64[1] n", (200, 96), "x86-vnni"),
    "columns": ("y = Gather<axis=1>(table, ids)", "int64[n] ids", (96, 200), "x86-vnni"),
    "a tied one": (TIED, "int64[n] ids", (200, 96), "x86-avx2"),
    "a tied one of odd length": (TIED, "int64[n] ids", (200, 100), "x86-vnni"),
    "one that is turned for others": (f"{TIED} o = Sin(t)", "int64[n] ids", (200, 96), "x86-vnni"),
}


@pytest.mark.parametrize("case", ODD)
def test_other_tables_get_eight_bits(apply_pass: ApplyPass, case: str) -> None:
    body, given, shape, target = ODD[case]
    model = model_of(body, given, table=weights(*shape), z=np.array([0]))
    graph, record = apply_pass(model, QuantizeWeights(weight_type="int4"), target=target)
    assert record.changes[0].what.startswith("table stored as int8, 200 scales along axis")
    assert record.changes[0].what.endswith("looks up no such rows of 4 bits")
    assert "GatherBlockQuantized" not in operators(graph)


@pytest.mark.parametrize("kind", ["int4", "uint4"])
def test_a_table_that_is_multiplied_by_as_well_is_stored_once(
    apply_pass: ApplyPass, kind: CodeName
) -> None:
    values = weights(200, 96)
    model = model_of(TIED, "int64[n] ids", table=values)
    item = QuantizeWeights(weight_type=kind)  # type: ignore[arg-type]
    graph, record = apply_pass(model, item, target="x86-vnni")
    grid = block_grid(values, (1, 32), CODE_TYPES[kind], half=True)
    assert record.changes[0].what == (
        f"table stored as {kind}, 600 scales, one for every 32 weights, in float16"
    )
    counted = operators(graph)
    assert (counted["GatherBlockQuantized"], counted["MatMulNBits"]) == (1, 1)
    assert "Transpose" not in counted
    ids = np.array([0, 199, 7])
    expected = grid.values()[ids] @ grid.values().T
    result = Session(graph).run({"ids": ids})["y"]
    np.testing.assert_allclose(result, expected, atol=LEVEL_4 * np.abs(expected).max())
    assert params(graph) == values.size
    assert zeros(graph).count == int((grid.values() == 0).sum())
    assert [entry.kernel for entry in audit(graph).integer] == ["MatMulNBits"]
    _, again = apply_pass(graph.to_model(), item, target="x86-vnni")
    assert again.status == "nothing to do"


VIEWED = {
    "conv": ("y = Conv(x, w)", IMAGE, (16, 16, 3, 3), (1, 3, 3, 3)),
    "short": ("y = MatMul(x, w)", "float[n, 100] x", (100, 24), (32, 1)),
    "gemm": ("y = Gemm<transB=1>(x, w)", "float[n, 64] x", (24, 64), (1, 32)),
    "moved": ("t = Transpose(w) y = MatMul(x, t)", "float[n, 64] x", (24, 64), (32, 1)),
}


@pytest.mark.parametrize("form", ["expanded", "dequantized"])
@pytest.mark.parametrize("kind", ["int4", "uint4"])
@pytest.mark.parametrize("layer", VIEWED)
def test_whoever_chooses_other_values_can_store_them(
    apply_pass: ApplyPass, layer: str, kind: CodeName, form: Any
) -> None:
    body, given, shape, block = VIEWED[layer]
    model = model_of(body, given, w=weights(*shape))
    item = QuantizeWeights(weight_type=kind, block_size=32, form=form, scales="float16")  # type: ignore[arg-type]
    graph, _ = apply_pass(model, item)
    (one,) = (each for each in layers(graph) if isinstance(each, Layer))
    coded = coded_weight(one)
    assert isinstance(coded, CodedWeight) and coded.block == block
    np.testing.assert_allclose(coded.values(), one.weight.values(), rtol=1e-6)
    codes = np.where(coded.codes < 3, coded.codes + 1, coded.codes)
    coded.store(codes, coded.scale * np.float32(2))
    again = coded_weight(next(each for each in layers(graph) if isinstance(each, Layer)))
    assert isinstance(again, CodedWeight)
    np.testing.assert_array_equal(again.codes, codes)
    np.testing.assert_array_equal(again.scale, coded.scale * 2)
    np.testing.assert_allclose(again.values(), read_weight(graph), rtol=1e-6)


def test_depthwise_filters_are_one_block(apply_pass: ApplyPass) -> None:
    model = model_of("y = Conv<group=256>(x, w)", "float[n, 256, 5, 5] x", w=weights(256, 1, 3, 3))
    graph, record = apply_pass(model, QuantizeWeights(weight_type="int4", block_size=16))
    assert record.changes[0].what == "w stored as int4, 256 scales along axis 0, in float16"
    assert operators(graph) == {"Cast": 2, "Mul": 1, "Conv": 1}


def test_what_would_not_get_smaller_stays_float(apply_pass: ApplyPass) -> None:
    model = model_of("y = MatMul(x, w)", "float[n, 64] x", w=weights(64, 32))
    _, record = apply_pass(model, QuantizeWeights(weight_type="int4", block_size=1))
    assert "as many scales as it needs leave hardly anything" in record.skipped[0].reason


def test_small_values_keep_scales_of_32_bits(apply_pass: ApplyPass) -> None:
    model = model_of("y = MatMul(x, w)", "float[n, 128] x", w=weights(128, 64) * np.float32(1e-6))
    graph, record = apply_pass(model, QuantizeWeights(weight_type="int4", block_size=32))
    assert graph.read(graph.main.initializers["w_scale"]).dtype == np.float32
    assert "float16" not in record.changes[0].what


@pytest.mark.parametrize(("kind", "opset", "needed"), [("uint4", 18, 21), ("int2", 21, 25)])
def test_few_bits_want_newer_opsets(
    apply_pass: ApplyPass, kind: CodeName, opset: int, needed: int
) -> None:
    model = model_of("y = MatMul(x, w)", "float[n, 128] x", opset, w=weights(128, 64))
    with pytest.raises(PassError, match=rf"put upgrade-opset\{{opset={needed}\}} before"):
        apply_pass(model, QuantizeWeights(weight_type=kind))  # type: ignore[arg-type]


def test_blocks_behind_a_dequantize_linear_want_opset_21(apply_pass: ApplyPass) -> None:
    model = model_of("y = MatMul(x, w)", "float[n, 128] x", 17, w=weights(128, 64))
    graph, _ = apply_pass(model, QuantizeWeights(block_size=32, form="dequantized"))
    assert "DequantizeLinear" not in operators(graph)
