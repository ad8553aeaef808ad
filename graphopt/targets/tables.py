"""The tables: what onnxruntime's CPU provider (1.22 to 1.32, read back from its graphs) fuses."""

from __future__ import annotations

from graphopt.targets.target import OpRule, Slow, Target

__all__ = ["TARGETS"]

_STANDARD = {
    "Conv": OpRule("weighted"),
    "MatMul": OpRule("weighted", inputs=(0, 1), needs_output=False),
    "MaxPool": OpRule("same", min_opset=12),
    "Reshape": OpRule("same"),
    "Transpose": OpRule("same"),
    "Flatten": OpRule("same"),
    "Squeeze": OpRule("same"),
    "Unsqueeze": OpRule("same"),
    "Slice": OpRule("same"),
    "Split": OpRule("same"),
    "Gather": OpRule("same"),
    "Tile": OpRule("same"),
    "Expand": OpRule("same"),
    "DepthToSpace": OpRule("same"),
    "Resize": OpRule(
        "same", attributes={"mode": "nearest"}, otherwise="a Resize that interpolates"
    ),
}
"""Operators that the ONNX standard itself can compute on integers."""

_CONTRIB = {
    "Gemm": OpRule("weighted", needs_output=False, needs_zero_points=True),
    "Add": OpRule("integer", inputs=(0, 1)),
    "Mul": OpRule("integer", inputs=(0, 1)),
    "Concat": OpRule("integer", inputs=None),
    "Sigmoid": OpRule("integer"),
    "LeakyRelu": OpRule("integer"),
    "AveragePool": OpRule("integer"),
    "GlobalAveragePool": OpRule("integer"),
    "Softmax": OpRule("integer", pays=False),
    "Where": OpRule("integer", inputs=(1, 2), pays=False),
    "ReduceMax": OpRule("same", pays=False),
}
"""Operators for which onnxruntime has integer kernels of its own (QLinearAdd, QGemm, ...; 1.32)."""

_ONNXRUNTIME = _STANDARD | _CONTRIB
_DYNAMIC = {"LSTM": "DynamicQuantizeLSTM"}
"""An LSTM of 128 to 512 cells took 0.33 to 0.55 times as long with it, one of 32 cells 0.8 times,
at 36 to 38 dB (onnxruntime 1.32, VNNI). RNN and GRU have no such form."""
_SLOW = Slow(group=8)
"""On integers 3x3 Convs of 128 channels at 28x28 took 2.9 times as long as in floats with 4
channels a group, 1.1 to 1.4 times with 8, and 0.6 times with 32 (onnxruntime 1.32, VNNI)."""

TARGETS = {
    target.name: target
    for target in (
        Target(
            "x86-vnni",
            "x86-64 with VNNI (AVX512-VNNI or AVX-VNNI): exact uint8 x int8 products",
            "x86-64",
            saturates=False,
            rules=_ONNXRUNTIME,
            dynamic=_DYNAMIC,
            slow=_SLOW,
        ),
        Target(
            "x86-avx2",
            "x86-64 without VNNI: neighbouring products are added in 16 bits and saturate",
            "x86-64",
            saturates=True,
            rules=_ONNXRUNTIME,
            dynamic=_DYNAMIC,
            slow=_SLOW,
        ),
        Target(
            "arm",
            "64-bit Arm: exact products",
            "Arm",
            saturates=False,
            rules=_ONNXRUNTIME,
            dynamic=_DYNAMIC,
            bias="int32+zero",
        ),
        Target(
            "generic",
            "any runtime: operators with an integer form in the ONNX standard, never saturating",
            "any machine",
            saturates=True,
            rules=_STANDARD,
        ),
    )
}
"""By name; ``host`` is one of these, found at run time."""
