"""Tiny networks of the usual kinds, and the same in the forms that exporters write."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graphopt.testing.forms import constants_as_nodes
from graphopt.testing.text import BYSTANDER, HEAD, dressed, model_from_text

__all__ = [
    "cnn",
    "constants_in_nodes",
    "half_precision",
    "listed_inputs",
    "mlp",
    "old_operators",
    "transformer",
]

_CNN_WEIGHTS: dict[str, NDArray[Any] | tuple[int, ...]] = {
    "W1": (16, 3, 3, 3),
    **dict.fromkeys(("g", "b", "m", "v"), (16,)),
    "W2": (16, 16, 3, 3),
    "W3": (16, 1, 3, 3),
    "W4": (10, 16),
    "B4": (10,),
}


def cnn(batch: str = "N", head: str = HEAD) -> onnx.ModelProto:
    """Convolutions with a norm, a residual and a depthwise one, then a Gemm."""
    model = model_from_text(
        f"""{head}
        cnn (float[{batch},3,8,8] x) => (float[{batch},10] y, float[{batch},3,8,8] aside) {{
          c1 = Conv <pads = [1, 1, 1, 1]> (x, W1)
          n1 = BatchNormalization (c1, g, b, m, v)
          r1 = Relu (n1)
          c2 = Conv <pads = [1, 1, 1, 1]> (r1, W2)
          s = Add (c2, r1)
          r2 = Relu (s)
          c3 = Conv <group = 16, strides = [2, 2]> (r2, W3)
          i = Identity (c3)
          p = GlobalAveragePool (i)
          f = Flatten (p)
          y = Gemm <transB = 1> (f, W4, B4)
          {BYSTANDER}
        }}""",
        _CNN_WEIGHTS,
    )
    return dressed(model)


def mlp() -> onnx.ModelProto:
    """Gemm, then a MatMul whose bias is an Add, and a norm."""
    return dressed(
        model_from_text(
            f"""{HEAD}
            mlp (float[N,32] x) => (float[N,24] y, float[N,32] aside) {{
              h1 = Gemm <transB = 1, alpha = 0.5> (x, W1, B1)
              r1 = Relu (h1)
              h2 = MatMul (r1, W2)
              a2 = Add (h2, B2)
              n2 = BatchNormalization (a2, g, b, m, v)
              y = Tanh (n2)
              {BYSTANDER}
            }}""",
            {
                "W1": (48, 32),
                "B1": (48,),
                "W2": (48, 24),
                "B2": (24,),
                **dict.fromkeys(("g", "b", "m", "v"), (24,)),
            },
        )
    )


def transformer() -> onnx.ModelProto:
    """Attention and a feed-forward block."""
    return dressed(
        model_from_text(
            f"""{HEAD}
            block (float[N,T,32] x) => (float[N,T,32] y, float[N,T,32] aside) {{
              q = MatMul (x, Wq)
              k = MatMul (x, Wk)
              kt = Transpose <perm = [0, 2, 1]> (k)
              scores = MatMul (q, kt)
              p = Softmax <axis = -1> (scores)
              mixed = MatMul (p, x)
              shape = Shape (mixed)
              same = Reshape (mixed, shape)
              u = MatMul (same, W1)
              ub = Add (u, B1)
              h = Relu (ub)
              d = MatMul (h, W2)
              y = Add (d, x)
              {BYSTANDER}
            }}""",
            {"Wq": (32, 32), "Wk": (32, 32), "W1": (32, 64), "B1": (64,), "W2": (64, 32)},
        )
    )


def listed_inputs() -> onnx.ModelProto:
    """IR 3: every initializer is an input too, and the operators are those of opset 9."""
    model = cnn(head='<ir_version: 3, opset_import: ["" : 9]>')
    for tensor in model.graph.initializer:
        value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    for message in (model.graph, *model.graph.node):
        del message.metadata_props[:]
    return model


def old_operators() -> onnx.ModelProto:
    """Opset 9: what were attributes then are inputs now."""
    text = f"""<ir_version: 4, opset_import: ["" : 9]>
        old (float[N,3,8,8] x) => (float[N,12] y, float[N,3,8,8] aside) {{
          c = Conv <pads = [1, 1, 1, 1]> (x, W1)
          r = Clip <min = 0.0, max = 6.0> (c)
          d = Dropout <ratio = 0.3> (r)
          k = Pad <pads = [0, 0, 1, 1, 0, 0, 1, 1]> (d)
          z = Upsample <mode = "nearest"> (k, scales)
          t = Slice <axes = [2, 3], starts = [1, 1], ends = [9, 9]> (z)
          mean = ReduceMean <axes = [2, 3], keepdims = 1> (t)
          q = Squeeze <axes = [2, 3]> (mean)
          u = Unsqueeze <axes = [2]> (q)
          e = Softmax <axis = 1> (u)
          f = Flatten (e)
          y = MatMul (f, W2)
          {BYSTANDER}
        }}"""
    scales = np.array([1, 1, 2, 2], np.float32)
    return dressed(model_from_text(text, {"W1": (16, 3, 3, 3), "W2": (16, 12), "scales": scales}))


def constants_in_nodes() -> onnx.ModelProto:
    """Weights in Constant nodes and behind Identity, as some exporters write them."""
    model = cnn()
    constants_as_nodes(model)
    return model


def half_precision() -> onnx.ModelProto:
    """All in float16."""
    model = cnn()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model
