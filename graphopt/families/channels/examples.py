"""Models on which channels and heads can go by time, or as heads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

__all__ = ["heads_model", "wide_model"]


def wide_model() -> onnx.ModelProto:
    """Two convolutions that take a time that can be told, with 64 channels between."""
    return _made(
        """<ir_version: 8, opset_import: ["" : 17]>
        wide (float[N,16,16,16] x) => (float[N,16,16,16] y, float[N,16,16,16] aside) {
          c = Conv <pads = [1, 1, 1, 1]> (x, W1)
          r = Relu (c)
          y = Conv <pads = [1, 1, 1, 1]> (r, W2)
          aside = Sin (x)
        }""",
        {"W1": (64, 16, 3, 3), "W2": (16, 64, 3, 3)},
    )


def heads_model() -> onnx.ModelProto:
    """Attention of four heads."""
    return _made(
        """<ir_version: 10, opset_import: ["" : 23]>
        heads (float[N,6,16] x) => (float[N,6,16] y) {
          q = MatMul (x, WQ)
          k = MatMul (x, WK)
          v = MatMul (x, WV)
          a = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v)
          y = MatMul (a, WO)
        }""",
        {"WQ": (16, 32), "WK": (16, 32), "WV": (16, 32), "WO": (32, 16)},
    )


def _made(text: str, shapes: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    made: onnx.ModelProto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        values = rng.normal(size=shape).astype(np.float32)
        made.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return made
