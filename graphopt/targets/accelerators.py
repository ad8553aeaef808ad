"""The tables of accelerators behind onnxruntime: what its execution providers take.

Read from their sources (paths below are those of microsoft/onnxruntime), not run on hardware.
"""

from __future__ import annotations

from dataclasses import replace

from graphopt.targets.operator_rules import ONNXRUNTIME
from graphopt.targets.target import OpRule, Slow, Target

__all__ = ["ACCELERATORS"]

_SIGNED = {name: replace(rule, activation_types=("int8",)) for name, rule in ONNXRUNTIME.items()}
_XNNPACK = _SIGNED | {
    # providers/xnnpack/nn/conv_base.cc, GetConvCompType: int8 with int8 (a scale a channel too), or
    # uint8 with uint8 of one scale; uint8 with int8 is refused
    "Conv": OpRule("weighted", weight_types=("int8",), activation_types=("int8",)),
}
"""What the provider refuses runs on the integer kernels of onnxruntime's CPU, of int8 as well."""

_NNAPI_WEIGHTED = OpRule("weighted", activation_types=("uint8",))
# providers/nnapi/nnapi_builtin/builders/helper.cc: uint8 alone for all inputs and results
_NNAPI = {
    name: replace(rule, activation_types=("uint8",))
    for name, rule in ONNXRUNTIME.items()
    if name not in ("LeakyRelu", "ReduceMax", "Where")
} | {
    "Conv": _NNAPI_WEIGHTED,
    # IsQuantizationScaleSupported: a scale a channel for Conv alone
    "MatMul": replace(_NNAPI_WEIGHTED, per_channel=False),
    "Gemm": replace(_NNAPI_WEIGHTED, per_channel=False, needs_zero_points=True),
}

_WEB = ONNXRUNTIME | {"Gemm": replace(ONNXRUNTIME["Gemm"], pays=False)}
"""An MLP of three Gemms took 2.6 times as long on integers, one row at a time (1.30, node 20)."""
_WEB_SLOW = Slow(depthwise=True, group=1 << 30, pointwise=64, alone=True)
"""Integers over floats, four times the same Conv (1.30, node 20): 3x3 0.88 to 0.99, 1x1 of 64 and
more channels 0.87 to 1.14, of 16 1.3 to 1.4, depthwise 3x3 1.7 to 2.2, 16 groups of 4 1.8."""
_WEB_TIME = 0.4
"""With ``crossing`` and ``overhead`` fitted to Convs that each stand between Abs in floats,
integers over floats (1.30, node 20): 1x1 of 128 to 128 channels at 14x14 0.8, of 256 to 256 at 7x7
0.6, of 112 to 672 at 14x14 0.5, of 144 to 40 and 40 to 240 at 8x8 1.1 to 1.2, of 80 to 480 at 4x4
1.0, 3x3 of 32 and 64 channels at 28x28 0.5. MobileNet 0.25 with nothing but its 1x1 of 128 and more
channels on integers took 0.89 of its time in floats."""

_QNN_WEIGHTED = OpRule(
    "weighted",
    # QNN HTP operator definitions: Conv2d and FullyConnected take int8 and int4 with a scale a
    # channel; weights of 4 bits beside 16-bit activations as well (2.44)
    weight_types=("int8", "uint8", "int4"),
    # quantization/execution_providers/qnn/quant_config.py: uint8 or uint16
    activation_types=("uint8", "uint16"),
)
_QNN = {
    name: replace(rule, activation_types=("uint8", "uint16"), pays=True)
    for name, rule in ONNXRUNTIME.items()
} | dict.fromkeys(("Conv", "MatMul", "Gemm"), _QNN_WEIGHTED)
"""Full groups alone: what has no Q behind it goes to the CPU, so results are quantized too."""

ACCELERATORS = (
    Target(
        "xnnpack",
        "onnxruntime's XNNPACK provider on phones: int8 with int8 weights",
        "64-bit Arm",
        saturates=False,
        rules=_XNNPACK,
        sizes="but the batch",  # conv_base.cc, IsOnnxNodeSupported: C, H, W must be known
        bias="int32+zero",  # GetConvCompType wants int32; a zero point, as for .ort on Arm
        integer_time=0.4,
    ),
    Target(
        "nnapi",
        "Android's NNAPI (deprecated since Android 15): uint8 with int8 weights, sizes fixed",
        "an Android accelerator",
        saturates=False,
        rules=_NNAPI,
        sizes="all",  # providers/nnapi/.../base_op_builder.cc: dynamic shapes are refused
        external=False,  # the same: initializers with external data are refused
        bias="int32+zero",  # phones load .ort files
        contrib=False,
    ),
    Target(
        "qnn",
        "Qualcomm's HTP through onnxruntime's QNN provider: uint8 or uint16, int8 or int4 weights",
        "a Qualcomm accelerator",
        saturates=False,
        rules=_QNN,
        requantizes=(),
        emulates=(),
        sizes="all",  # docs, QNN execution provider: no dynamic shapes
        calls=False,  # no DynamicQuantizeLinear among its operators
        contrib=False,
        integer_time=0.3,
    ),
    Target(
        "coreml",
        "Apple's Core ML through onnxruntime: no quantized layers; weights stored small are floats",
        "an Apple accelerator",
        saturates=False,
        # providers/coreml/builders/impl has a builder neither for QuantizeLinear nor for
        # DequantizeLinear, so that parts in QDQ form fall to the CPU; Cast and Mul of a weight are
        # folded before it looks
        rules={},
        requantizes=(),
        emulates=(),
        sizes="all",  # docs, CoreML execution provider: static shapes perform best
        calls=False,
        contrib=False,
        integer_time=1.0,
    ),
    Target(
        "web",
        "onnxruntime-web, WebAssembly with SIMD: int8 for wide layers alone",
        "WebAssembly",
        saturates=False,
        rules=_WEB,  # 1.30 in node 20: the bits of the desktop
        slow=_WEB_SLOW,
        integer_time=_WEB_TIME,
        crossing=25.0,
        overhead=60_000.0,
    ),
)
