"""A table alone makes a target: no pass and no analysis knows this runtime."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.analysis.audit import audit
from graphopt.contract.passes import Pass
from graphopt.errors import PassError
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute, is_op
from graphopt.numerics import sqnr
from graphopt.passes.quantize import QuantizeDynamic, QuantizeStatic, QuantizeWeights
from graphopt.run.record import PassRecord
from graphopt.runtime.session import Session
from graphopt.targets import OpRule, Target
from graphopt.testing import apply_pass, model_from_text

LAYER = OpRule("weighted", weight_types=("int8",), activation_types=("int8",))
NPU = Target(
    "npu",
    "int8 with zero point 0, one scale a tensor, nothing but Conv and MatMul",
    "an NPU",
    saturates=False,
    rules={"Conv": LAYER, "MatMul": replace(LAYER, needs_output=False)},
    activations=(),
    requantizes=(),
    runtime="the npu",
    per_channel=False,
    symmetric=True,
    emulates=(),
)
FITTING = QuantizeStatic(per_channel=False, ranges="minmax")
BODY = """
    [a] c = Conv(x, w, b)  r = Relu(c)  [b] d = Conv(r, v)  s = Sigmoid(d)
    p = GlobalAveragePool(s)  f = Flatten(p)  [m] y = MatMul(f, u)
"""
WEIGHTS = {"w": (8, 3, 3, 3), "b": (8,), "v": (8, 8, 1, 1), "u": (8, 5)}
SQNR_DB = 25.0  # the coarse grid of one scale a tensor gives 30 dB and more; a wrong one far less


def model(opset: int = 13) -> onnx.ModelProto:
    head = f'<ir_version: 10, opset_import: ["" : {opset}]>'
    ports = "(float[N, 3, 8, 8] x) => (float[N, 5] y)"
    return model_from_text(f"{head} g {ports} {{ {BODY} }}", WEIGHTS)


def samples() -> dict[str, NDArray[np.float32]]:
    return {"x": np.random.default_rng(3).normal(size=(8, 3, 8, 8)).astype(np.float32)}


def quantized(item: Pass = FITTING, target: Target = NPU, **given: Any) -> tuple[Graph, PassRecord]:
    return apply_pass(item, model(**given), target=target, samples=samples(), strict=True)


def activations(graph: Graph) -> set[str]:
    """The tensors that have Q and DQ."""
    return {n.input[0] for n in graph.main.nodes if is_op(n, "QuantizeLinear")}


def operators(made: onnx.ModelProto | Graph) -> set[str]:
    graph = made if isinstance(made, Graph) else Graph(made)
    return {node.op_type for node in graph.main.nodes}


def dequantizers(graph: Graph) -> list[onnx.NodeProto]:
    return [n for n in graph.main.nodes if is_op(n, "DequantizeLinear")]


def constant(graph: Graph, name: str) -> NDArray[Any]:
    return graph.read(graph.main.initializers[name])


def test_q_and_dq_stand_around_the_operators_of_the_table_alone() -> None:
    graph, record = quantized()
    assert [edit.node for edit in record.changes] == ["a", "b", "m"]
    assert activations(graph) == {"x", "c", "r", "d", "f"}, "a Relu is not swallowed there"
    floats = quantized(target=replace(NPU, activations=("Relu",)))[0]
    assert activations(floats) == {"x", "r", "d", "f"}
    convs = quantized(target=replace(NPU, rules={"Conv": LAYER}))[0]
    assert activations(convs) == {"x", "c", "r", "d"}


def test_activations_are_symmetric_and_weights_have_one_scale() -> None:
    graph, _ = quantized()
    feeds = samples()
    for tensor in ("x", "c", "r", "d", "f"):
        zero_point = constant(graph, f"{tensor}_zero_point")
        assert zero_point.dtype == np.int8
        assert (zero_point.shape, int(zero_point)) == ((), 0)
    reach = np.abs(feeds["x"]).max()
    np.testing.assert_allclose(constant(graph, "x_scale"), reach / 127, rtol=1e-6)
    for weight in ("w", "v", "u"):
        assert constant(graph, f"{weight}_scale").shape == ()
        codes = constant(graph, f"{weight}_quantized")
        assert codes.dtype == np.int8
        assert np.abs(codes.astype(int)).max() == 127
    steps = constant(graph, "x_scale") * constant(graph, "w_scale")
    np.testing.assert_allclose(constant(graph, "b_scale"), steps, rtol=1e-6)
    expected = Session(Graph(model())).run(feeds)["y"]
    made = Session(graph, level="off").run(feeds)["y"]
    found = sqnr.sqnr_db(expected, made)
    assert found is not None
    assert found > SQNR_DB


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            QuantizeStatic(activation_type="uint8"),
            "has no kernels for activation_type=uint8; it takes int8",
        ),
        (QuantizeStatic(), "takes one scale a weight; set per_channel=false"),
        (
            QuantizeStatic(per_channel=False, weight_type="int4"),
            "has no kernels for weight_type=int4; it takes int8",
        ),
        (QuantizeDynamic(), "takes one scale a weight; set per_channel=false"),
        (
            QuantizeDynamic(per_channel=False, weights="uint8"),
            "has no kernels for weights=uint8; it takes int8",
        ),
    ],
)
def test_options_that_it_lacks_are_refused(item: Pass, message: str) -> None:
    with pytest.raises(PassError, match=f"target npu {re.escape(message)}$"):
        quantized(item, opset=21)


def test_a_layer_of_other_codes_is_left_alone() -> None:
    rules = {"Conv": LAYER, "MatMul": replace(LAYER, activation_types=("uint16",))}
    graph, record = quantized(target=replace(NPU, rules=rules))
    assert activations(graph) == {"x", "c", "r", "d"}
    (skip,) = record.skipped
    assert (skip.node, skip.reason) == (
        "m",
        "target npu has no MatMul of int8 weights and int8 activations",
    )


def test_four_bits_where_one_operator_has_the_kernel_and_the_other_is_emulated() -> None:
    rules = {**NPU.rules, "Conv": replace(LAYER, weight_types=("int8", "int4"))}
    target = replace(NPU, rules=rules, emulates=("int4",))
    item = replace(FITTING, weight_type="int4", edges="same")
    graph, record = quantized(item, target, opset=21)
    assert activations(graph) == {"x", "c", "r", "d", "f"}
    notes = {edit.node: edit.what for edit in record.changes}
    assert notes["a"] == notes["b"] == "int4 weight, int8 activation"
    assert notes["m"].endswith("; the npu has no kernel for 4 bits and computes in floats")
    emulated = quantized(item, replace(target, rules=NPU.rules), opset=21)[0]
    assert activations(emulated) == {"x", "r", "f"}, "only in front of the layers"


def test_the_audit_reads_the_codes_from_the_table() -> None:
    graph, _ = quantized(opset=21)
    for name in ("x", "c"):
        stored = graph.main.constant(f"{name}_zero_point")
        assert stored is not None
        stored.set(np.asarray(0, np.int16))
    wide = replace(NPU, rules={"Conv": replace(LAYER, activation_types=("int8", "int16"))})
    reasons = {entry.node: entry.reason for entry in audit(graph, target=NPU).float_}
    assert reasons["a"].startswith("its input has int16 codes, the kernels take 8 bits; ")
    assert "codes" not in {e.node: e.reason for e in audit(graph, target=wide).float_}["a"]
    lacking = replace(wide, rules={"MatMul": LAYER})
    reasons = {entry.node: entry.reason for entry in audit(graph, target=lacking).float_}
    assert reasons["a"].startswith("the npu has no integer kernel for Conv; ")


def test_weights_are_stored_in_the_form_that_the_runtime_folds() -> None:
    item = QuantizeWeights(min_size=0)
    linear = quantized(item, replace(NPU, expands="DequantizeLinear"))[0]
    cast = quantized(item)[0]
    assert {"DequantizeLinear"} == operators(linear) - operators(model())
    assert {"Cast", "Mul"} == operators(cast) - operators(model())
    for weight, channels in (("w", 8), ("v", 8), ("u", 5)):
        assert constant(linear, f"{weight}_scale").shape == (channels,)
    assert {attribute(n, "axis", 1) for n in dequantizers(linear)} == {0, 1}
    answers = [Session(each, level="off").run(samples())["y"] for each in (linear, cast)]
    np.testing.assert_array_equal(*answers)
    older = quantized(item, replace(NPU, expands="DequantizeLinear"), opset=11)[0]
    assert "DequantizeLinear" not in operators(older), "it has no axis there"


def test_rows_are_looked_up_in_tables_of_the_codes_that_the_table_names() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
        g (int64[N] i) => (float[N, 16] y) { [rows] y = Gather(t, i) }"""
    embedding = model_from_text(text, {"t": (80, 16)})
    item = QuantizeWeights(weight_type="int4")
    _, refused = apply_pass(item, embedding, target=replace(NPU, row_types=("uint8",)))
    assert [skip.reason for skip in refused.skipped] == [
        "a table whose entries are looked up; the npu has no Gather of 8 bits"
    ]
    graph = apply_pass(item, embedding, target=NPU)[0]
    assert constant(graph, "t_quantized").dtype == np.int8
    narrow = replace(NPU, row_types=("int4",))
    graph = apply_pass(item, embedding, target=narrow, judge=False)[0]
    assert constant(graph, "t_quantized").dtype == ml_dtypes.int4
    assert "Gather" in operators(graph)
