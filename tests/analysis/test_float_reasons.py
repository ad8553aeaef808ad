"""Each reason on a graph that onnxruntime really leaves in float for it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper, parser

from graphopt.analysis.audit import audit
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array

RNG = np.random.default_rng(0)
CONV = "Conv<pads = [1, 1, 1, 1]>"
IN = "q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  "
WEIGHT = "wd = DequantizeLinear<axis = 0>(w, ws)  "
OUT = "q9 = QuantizeLinear(last, s, z)  y = DequantizeLinear(q9, s, z)"
S = np.float32(0.02)


def codes(*shape: int) -> Array:
    return RNG.integers(-60, 60, shape).astype(np.int8)


CONSTANTS: dict[str, Any] = {
    "s": S,
    "z": np.uint8(0),
    "w": codes(4, 4, 3, 3),
    "ws": np.full(4, S),
    "m": codes(6, 4),
}


def reason_of(
    node: str, body: str, ports: str = "", opset: int = 21, **changed: Array | np.generic
) -> str:
    """What the audit says about a node that must be found in float."""
    image = "float[1, 4, 6, 6]"
    ports = ports or f"({image} x) => ({image} y)"
    model = parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : {opset}]> g {ports} {{ {body} }}'
    )
    constants: Mapping[str, Any] = {**CONSTANTS, **changed}
    for name, values in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    (entry,) = [e for e in audit(Graph(model)).float_ if e.node == node]
    return entry.reason


CHAIN = IN + WEIGHT + f"[conv] last = {CONV}(d, wd)  " + OUT


def test_input_not_quantized() -> None:
    body = WEIGHT + f"[conv] last = {CONV}(x, wd)  " + OUT
    assert "its input is not quantized" in reason_of("conv", body)


def test_sixteen_bit_activations() -> None:
    reason = reason_of("conv", CHAIN, z=np.uint16(0))
    assert "uint16 codes, the kernels take 8 bits" in reason


def test_four_bit_weights() -> None:
    four = codes(4, 4, 3, 3).clip(-7, 7).astype(ml_dtypes.int4)
    assert "its weight has int4 codes, the kernels take 8 bits" in reason_of("conv", CHAIN, w=four)


def test_a_result_of_four_bits() -> None:
    out = "q9 = QuantizeLinear(last, s, z4)  y = DequantizeLinear(q9, s, z4)"
    reason = reason_of("conv", CHAIN.replace(OUT, out), z4=np.array(0, ml_dtypes.uint4))
    assert "its result gets uint4 codes, the kernels give 8 bits" in reason


def test_two_readers_before_the_quantizer() -> None:
    body = (
        IN
        + WEIGHT
        + f"[conv] c = {CONV}(d, wd)  a = Sin(c)  k = QuantizeLinear(c, s, z)  "
        + "kd = DequantizeLinear(k, s, z)  y = Add(a, kd)"
    )
    assert "2 readers (QuantizeLinear, Sin)" in reason_of("conv", body)


def test_result_goes_elsewhere() -> None:
    body = IN + WEIGHT + f"[conv] c = {CONV}(d, wd)  last = Sin(c)  " + OUT
    assert "goes to Sin and is not quantized before" in reason_of("conv", body)


def test_relu_that_the_codes_do_not_cover() -> None:
    body = IN + WEIGHT + f"[conv] c = {CONV}(d, wd)  last = Relu(c)  " + OUT
    assert "its Relu reach beyond its bounds" in reason_of("conv", body, z=np.uint8(100))


def test_clip_that_the_codes_do_not_cover() -> None:
    body = IN + WEIGHT + f"[conv] c = {CONV}(d, wd)  last = Clip(c, low, high)  " + OUT
    reason = reason_of("conv", body, low=np.float32(0), high=np.float32(2))
    assert "its Clip reach beyond its bounds" in reason


def test_bias_of_another_scale() -> None:
    body = (
        IN
        + WEIGHT
        + "bd = DequantizeLinear<axis = 0>(b, bs)  "
        + f"[conv] last = {CONV}(d, wd, bd)  "
        + OUT
    )
    reason = reason_of("conv", body, b=np.zeros(4, np.int32), bs=np.full(4, S))
    assert "the scale of its int32 bias" in reason


def test_wrong_axis_of_a_matrix() -> None:
    ports = "(float[N, 6] x) => (float[N, 4] y)"
    body = IN + "wd = DequantizeLinear<axis = 0>(m, ms)  [mm] last = MatMul(d, wd)  " + OUT
    reason = reason_of("mm", body, ports, ms=np.full(6, S))
    assert "a scale for each index of axis 0; it must be axis 1" in reason


def test_factors_of_a_gemm() -> None:
    ports = "(float[N, 6] x) => (float[N, 4] y)"
    body = IN + "wd = DequantizeLinear(m, s)  [mm] last = Gemm<alpha = 0.5>(d, wd, b)  " + OUT
    assert "its alpha is not 1" in reason_of("mm", body, ports, b=np.zeros(4, np.float32))


def test_a_gemm_without_zero_point() -> None:
    ports = "(float[N, 6] x) => (float[N, 4] y)"
    body = IN + "wd = DequantizeLinear(m, s)  [mm] last = Gemm(d, wd)  " + OUT
    assert "has no zero point, which Gemm alone asks for" in reason_of("mm", body, ports)


def test_float_bias_merged_into_a_gemm() -> None:
    ports = "(float[2, 6] x) => (float[2, 4] y)"
    body = IN + "wd = DequantizeLinear(m, s)  [mm] k = MatMul(d, wd)  y = Add(k, b)"
    reason = reason_of("mm", body, ports, b=np.ones(4, np.float32))
    assert "merges it with the float bias" in reason


def test_scale_that_is_a_vector() -> None:
    body = IN + "d2 = DequantizeLinear(q, s, z)  [add] last = Add(d, d2)  " + OUT
    reason = reason_of("add", body, s=np.array([S]), z=np.zeros(1, np.uint8))
    assert "has shape [1]; it must have rank 0" in reason


def test_operand_that_is_a_float_constant() -> None:
    body = IN + "[add] last = Add(d, b)  " + OUT
    reason = reason_of("add", body, b=np.ones(1, np.float32))
    assert "its input is not quantized" in reason


@pytest.mark.parametrize(
    ("opset", "other", "words"),
    [(11, S, "opset 12"), (21, np.float32(0.03), "differ before and behind")],
)
def test_pooling(opset: int, other: np.float32, words: str) -> None:
    body = (
        IN
        + "[pool] p = MaxPool<kernel_shape = [1, 1]>(d)  "
        + "q9 = QuantizeLinear(p, s2, z)  y = DequantizeLinear(q9, s2, z)"
    )
    assert words in reason_of("pool", body, opset=opset, s2=other)


def test_no_integer_kernel() -> None:
    body = IN + "[tanh] last = Tanh(d)  " + OUT
    assert reason_of("tanh", body) == "onnxruntime has no integer kernel for Tanh"


def test_interpolating_resize() -> None:
    body = IN + '[up] last = Resize<mode = "linear">(d, , scales)  ' + OUT
    reason = reason_of("up", body, scales=np.ones(4, np.float32))
    assert "a Resize that interpolates" in reason


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 rewrites int8")
def test_signed_activations_that_branch() -> None:
    body = (
        IN
        + WEIGHT
        + f"[conv] c = {CONV}(d, wd)  k = QuantizeLinear(c, s, z)  kd = DequantizeLinear(k, s, z)  "
        + "[add] last = Add(kd, d)  "
        + OUT
    )
    reason = reason_of("conv", body, z=np.int8(0))
    assert "an int8 activation of it has 2 readers" in reason
