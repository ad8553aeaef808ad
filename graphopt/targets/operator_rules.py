"""What onnxruntime's CPU computes on integers, operator by operator (1.22 to 1.32, measured)."""

from __future__ import annotations

from graphopt.targets.target import OpRule

__all__ = ["ONNXRUNTIME", "STANDARD"]

STANDARD = {
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

ONNXRUNTIME = STANDARD | _CONTRIB
"""All of them."""
