"""The tables of other runtimes: OpenVINO and TensorRT."""

from __future__ import annotations

from dataclasses import replace

from graphopt.numerics.grids import CodeName
from graphopt.targets.operator_rules import ONNXRUNTIME, STANDARD
from graphopt.targets.target import OpRule, Target

__all__ = ["RUNTIMES"]

_INT8: tuple[CodeName, ...] = ("int8",)
_LINEAR = OpRule(
    "weighted",
    needs_output=False,  # what has a Q behind it is fused with it, else it gives floats
    weight_types=_INT8,
    activation_types=_INT8,
)
_TENSORRT = {name: replace(rule, activation_types=_INT8) for name, rule in STANDARD.items()} | {
    # docs, Explicit Quantization: convolutions and matrix products read DQ on both sides;
    # pooling and residual additions are fused with the DQ before and the Q behind them
    "Conv": _LINEAR,
    "MatMul": _LINEAR,
    "Gemm": _LINEAR,
    "Add": OpRule("integer", inputs=(0, 1), activation_types=_INT8),
    "AveragePool": OpRule("integer", activation_types=_INT8),
    "GlobalAveragePool": OpRule("integer", activation_types=_INT8),
}

RUNTIMES = (
    Target(
        "openvino",
        "OpenVINO on x86 CPUs: uint8 or int8 with int8 weights; dynamic forms run in floats",
        "x86-64",
        saturates=False,
        rules=ONNXRUNTIME,  # 2026.4: each quantized Conv and MatMul of six models was u8 or i8
        clamps=True,  # activations become post-operations of the kernel
        requantizes=(),
        runtime="OpenVINO",
        calls=False,  # MatMulInteger is decomposed and computed in float32 (2026.4)
        contrib=False,
        integer_time=0.55,  # 0.43 to 0.68 on six models (AVX512-VNNI)
    ),
    Target(
        "tensorrt",
        "TensorRT: int8 around zero point 0, biases in floats",
        "an NVIDIA GPU",
        saturates=False,
        rules=_TENSORRT,
        clamps=True,  # Conv, Relu and Clip are one layer
        requantizes=(),
        runtime="TensorRT",
        symmetric=True,  # docs, Working with Quantized Types: symmetric, signed int8
        bias="float",  # the parser refuses a DequantizeLinear of int32 (onnx-tensorrt issue 850)
        expands="DequantizeLinear",  # docs: low-precision weights come behind a DQ
        emulates=(),
        calls=False,
        contrib=False,
    ),
)
