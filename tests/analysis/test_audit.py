from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper, parser

from graphopt import targets
from graphopt.analysis.audit import Audit, audit, expected
from graphopt.errors import ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.passes.quantize import PalettizeWeights
from graphopt.testing import apply_pass, model_from_text

RNG = np.random.default_rng(0)
S = np.float32(0.02)
U8 = np.uint8(0)
IMAGE = "float[1, 4, 6, 6]"
CONV = "Conv<pads = [1, 1, 1, 1]>"


def codes(*shape: int) -> Array:
    return RNG.integers(-60, 60, shape).astype(np.int8)


def floats(*shape: int) -> Array:
    return (RNG.standard_normal(shape) * 0.1).astype(np.float32)


def graph_of(body: str, constants: Mapping[str, Any], ports: str = "", opset: int = 21) -> Graph:
    ports = ports or f"({IMAGE} x) => ({IMAGE} y)"
    model = parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : {opset}]> g {ports} {{ {body} }}'
    )
    for name, values in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return Graph(model)


def kernels(found: Audit) -> dict[str, str]:
    return {entry.node: entry.kernel for entry in found.integer}


def reasons(found: Audit) -> dict[str, str]:
    return {entry.node: entry.reason for entry in found.float_}


QUANTIZED = "q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  "
BACK = "q9 = QuantizeLinear(last, s, z)  y = DequantizeLinear(q9, s, z)"
WEIGHT = "wd = DequantizeLinear(w, ws)  "
BASIC: dict[str, Any] = {"s": S, "z": U8, "w": codes(4, 4, 3, 3), "ws": S}


def test_a_residual_block_runs_on_integers() -> None:
    body = (
        QUANTIZED
        + WEIGHT
        + f"[conv] c = {CONV}(d, wd)  r = Relu(c)  q1 = QuantizeLinear(r, s, z)  "
        + "d1 = DequantizeLinear(q1, s, z)  [add] last = Add(d1, d)  "
        + BACK
    )
    found = audit(graph_of(body, BASIC))
    assert kernels(found) == {"conv": "QLinearConv", "add": "QLinearAdd"}
    assert found.float_ == []


def test_another_machine_is_told_of_by_its_table() -> None:
    body = (
        QUANTIZED
        + WEIGHT
        + f"[conv] c = {CONV}(d, wd)  q1 = QuantizeLinear(c, s, z)  "
        + "d1 = DequantizeLinear(q1, s, z)  [add] last = Add(d1, d)  "
        + BACK
    )
    graph = graph_of(body, BASIC)
    generic, arm = (expected(graph, target=targets.find(name)) for name in ("generic", "arm"))
    assert (generic.table, list(kernels(generic))) == ("generic", ["conv"])
    assert reasons(generic) == {"add": "target generic has no integer kernel for Add"}
    assert kernels(arm) == {"conv": "Conv", "add": "Add"}
    left = expected(graph, {"add": "excluded", "conv": "?"}, target=targets.find("generic"))
    assert reasons(left) == {"add": "excluded"}


def test_reasons_that_passes_gave_come_first() -> None:
    graph = graph_of(f"[conv] y = {CONV}(x, w)", {"w": floats(4, 4, 3, 3)})
    assert reasons(audit(graph)) == {"conv": "its weight is float"}
    assert reasons(audit(graph, {"conv": "excluded"})) == {"conv": "excluded"}


def test_silent_quantization_is_told() -> None:
    body = QUANTIZED + f"[conv] c = {CONV}(d, w, b)  last = Relu(c)  " + BACK
    constants = {**BASIC, "w": floats(4, 4, 3, 3), "b": floats(4)}
    (entry,) = audit(graph_of(body, constants)).integer
    assert entry.kernel == "QLinearConv"
    assert "float in the file, but onnxruntime quantizes it" in entry.reason


def test_a_transposed_convolution_that_is_degraded_for_nothing() -> None:
    body = QUANTIZED + "[up] last = ConvTranspose<kernel_shape = [1, 1]>(d, w)  " + BACK
    found = audit(graph_of(body, {**BASIC, "w": floats(4, 4, 1, 1)}))
    assert "no integer kernel for ConvTranspose" in reasons(found)["up"]
    assert "rounds its float weight to int8" in reasons(found)["up"]


def test_a_weight_dequantized_at_every_run_is_a_defect() -> None:
    found = audit(graph_of(QUANTIZED + WEIGHT + f"[conv] y = {CONV}(d, wd)", BASIC))
    assert "its result is an output of the model" in reasons(found)["conv"]
    assert "its weight is dequantized at every run" in reasons(found)["conv"]


def test_a_weight_expanded_at_load_is_no_defect() -> None:
    body = f"f = Cast<to = 1>(w)  wd = Mul(f, ws)  [conv] y = {CONV}(x, wd)"
    found = audit(graph_of(body, BASIC))
    assert reasons(found) == {
        "conv": "its weight is only stored small; onnxruntime expands it to float at load"
    }


@pytest.mark.parametrize("bits, opset", [(3, 17), (4, 17), (4, 21), (8, 17)])
def test_a_weight_from_a_codebook_is_stored_small(bits: int, opset: int) -> None:
    text = f"""<ir_version: 10, opset_import: ["" : {opset}]>
      g (float[1,8,4,4] x) => (float[1,64,4,4] y) {{ [conv] y = Conv(x, w) }}"""
    weight = np.linspace(-1, 1, 64 * 8, dtype=np.float32).reshape(64, 8, 1, 1)
    item = PalettizeWeights(bits=bits, eight_bits=())
    graph, _ = apply_pass(item, model_from_text(text, {"w": weight}))
    assert reasons(audit(graph)) == {
        "conv": "its weight is only stored small; onnxruntime expands it to float at load"
    }


def test_branches_of_an_if_are_looked_into() -> None:
    body = f"""
    y = If(c) <
        then_branch = t () => ({IMAGE} a) {{
            {QUANTIZED} {WEIGHT} [inner] k = {CONV}(d, wd)
            q2 = QuantizeLinear(k, s, z)  a = DequantizeLinear(q2, s, z)
        }},
        else_branch = e () => ({IMAGE} b) {{ [other] b = {CONV}(x, w2) }}
    >
    """
    ports = f"(bool c, {IMAGE} x) => ({IMAGE} y)"
    found = audit(graph_of(body, {**BASIC, "w2": floats(4, 4, 3, 3)}, ports))
    assert kernels(found) == {"inner": "QLinearConv"}
    assert reasons(found) == {"other": "its weight is float"}


MATRICES = "(float[N, 16] x) => (float[N, 8] y)"
WZ = np.zeros(8, np.int8)
MATRIX: dict[str, Any] = {"s": S, "z": U8, "w": codes(16, 8), "ws": np.full(8, S), "wz": WZ}


@pytest.mark.parametrize(
    ("body", "kernel"),
    [
        (
            "q, qs, qz = DynamicQuantizeLinear(x)  [mm] m = MatMulInteger(q, w, qz)"
            "  f = Cast<to = 1>(m)  k = Mul(qs, ws)  y = Mul(f, k)",
            "DynamicQuantizeMatMul",
        ),
        ("wd = DequantizeLinear<axis = 1>(w, ws)  [mm] y = MatMul(x, wd)", "MatMulNBits"),
        (
            QUANTIZED + "wd = DequantizeLinear<axis = 1>(w, ws)  [mm] y = MatMul(d, wd)",
            "MatMulIntegerToFloat",
        ),
        (
            QUANTIZED
            + "wd = DequantizeLinear<axis = 1>(w, ws, wz)  [mm] last = Gemm(d, wd)  "
            + BACK,
            "QGemm",
        ),
    ],
)
def test_forms_of_matrix_products(body: str, kernel: str) -> None:
    found = audit(graph_of(body, MATRIX, MATRICES))
    assert kernels(found) == {"mm": kernel}
    assert found.float_ == []


def test_operators_that_are_integer_by_themselves() -> None:
    body = (
        "q = QuantizeLinear(x, s, z)  [conv] c = QLinearConv<pads = [1, 1, 1, 1]>"
        "(q, s, z, w, ws, wz, s, z)  y = DequantizeLinear(c, s, z)"
    )
    found = audit(graph_of(body, {**BASIC, "wz": np.int8(0)}))
    assert kernels(found) == {"conv": "QLinearConv"}


def test_pooling_on_integers_keeps_its_name() -> None:
    body = QUANTIZED + "[pool] last = MaxPool<kernel_shape = [1, 1]>(d)  " + BACK
    assert kernels(audit(graph_of(body, BASIC))) == {"pool": "MaxPool"}


def test_a_plain_float_model_has_only_float_layers() -> None:
    body = "[mm] m = MatMul(x, w)  [relu] y = Relu(m)"
    found = audit(graph_of(body, {"w": floats(16, 8)}, MATRICES))
    assert found.integer == [] and list(reasons(found)) == ["mm"]


def test_folded_layers_are_in_neither_list() -> None:
    body = "[mm] m = MatMul(a, w)  y = Add(x, m)"
    constants = {"a": floats(1, 16), "w": floats(16, 8)}
    graph = graph_of(body, constants, "(float[1, 8] x) => (float[1, 8] y)")
    assert audit(graph) == Audit([], [])


def test_the_graph_keeps_its_names() -> None:
    graph = graph_of(f"[conv] y = {CONV}(x, w)", {"w": floats(4, 4, 3, 3)})
    before = graph.to_model().SerializeToString(deterministic=True)
    audit(graph)
    assert graph.to_model().SerializeToString(deterministic=True) == before


def test_a_model_that_does_not_load() -> None:
    with pytest.raises(ModelError, match="Nothing"):
        audit(graph_of("y = Nothing(x)", {}))
