"""Tiny models, each with one habit of real files that passes have to cope with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graphopt.testing.forms import constants_as_nodes
from graphopt.testing.text import dressed, model_from_text, random_weight

__all__ = ["MODELS"]

_HEAD = '<ir_version: 8, opset_import: ["" : 13], doc_string: "tiny", producer_name: "tests">'


_BYSTANDER = "aside = Sin (x)"
_CNN_WEIGHTS: dict[str, NDArray[Any] | tuple[int, ...]] = {
    "W1": (16, 3, 3, 3),
    **dict.fromkeys(("g", "b", "m", "v"), (16,)),
    "W2": (16, 16, 3, 3),
    "W3": (16, 1, 3, 3),
    "W4": (10, 16),
    "B4": (10,),
}


def _cnn(batch: str = "N", head: str = _HEAD) -> onnx.ModelProto:
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
          {_BYSTANDER}
        }}""",
        _CNN_WEIGHTS,
    )
    return dressed(model)


def _mlp() -> onnx.ModelProto:
    return dressed(
        model_from_text(
            f"""{_HEAD}
            mlp (float[N,32] x) => (float[N,24] y, float[N,32] aside) {{
              h1 = Gemm <transB = 1, alpha = 0.5> (x, W1, B1)
              r1 = Relu (h1)
              h2 = MatMul (r1, W2)
              a2 = Add (h2, B2)
              n2 = BatchNormalization (a2, g, b, m, v)
              y = Tanh (n2)
              {_BYSTANDER}
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


def _transformer() -> onnx.ModelProto:
    return dressed(
        model_from_text(
            f"""{_HEAD}
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
              {_BYSTANDER}
            }}""",
            {"Wq": (32, 32), "Wk": (32, 32), "W1": (32, 64), "B1": (64,), "W2": (64, 32)},
        )
    )


def _listed() -> onnx.ModelProto:
    """IR 3: every initializer is an input too, and the operators are those of opset 9."""
    model = _cnn(head='<ir_version: 3, opset_import: ["" : 9]>')
    for tensor in model.graph.initializer:
        value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    for message in (model.graph, *model.graph.node):
        del message.metadata_props[:]
    return model


def _old() -> onnx.ModelProto:
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
          {_BYSTANDER}
        }}"""
    scales = np.array([1, 1, 2, 2], np.float32)
    return dressed(model_from_text(text, {"W1": (16, 3, 3, 3), "W2": (16, 12), "scales": scales}))


def _constants() -> onnx.ModelProto:
    """Weights in Constant nodes and behind Identity, as some exporters write them."""
    model = _cnn()
    constants_as_nodes(model)
    return model


def _shared() -> onnx.ModelProto:
    return dressed(
        model_from_text(
            f"""{_HEAD}
            shared (float[N,32] x) => (float[N,32] y, float[N,32] aside) {{
              h1 = MatMul (x, W)
              r1 = Relu (h1)
              h2 = MatMul (r1, W)
              r2 = Relu (h2)
              h3 = Gemm (r2, W, B)
              h4 = MatMul (h3, Twin)
              y = Tanh (h4)
              {_BYSTANDER}
            }}""",
            {"W": (32, 32), "B": (32,), "Twin": random_weight((32, 32), np.random.default_rng(0))},
        )
    )


def _bodies() -> onnx.ModelProto:
    """Layers inside If and Loop bodies that capture weights from outside."""
    return dressed(
        model_from_text(
            f"""{_HEAD}
            bodies (float[2,32] x) => (float[2,32] y, float[2,32] aside) {{
              total = ReduceSum <keepdims = 0> (x)
              zero = Constant <value = float {{0.0}}> ()
              positive = Greater (total, zero)
              picked = If (positive) <
                then_branch = yes () => (float[2,32] t) {{
                  tm = MatMul (x, W1)
                  ti = Identity (tm)
                  t = Relu (ti)
                }},
                else_branch = no () => (float[2,32] e) {{
                  em = Gemm (x, W2, B2)
                  e = Relu (em)
                }}
              >
              count = Constant <value = int64 {{2}}> ()
              always = Constant <value = bool {{1}}> ()
              y = Loop (count, always, picked) <
                body = step (int64 n, bool go, float[2,32] state) =>
                       (bool again, float[2,32] next) {{
                  again = Identity (go)
                  lm = MatMul (state, W1)
                  next = Tanh (lm)
                }}
              >
              {_BYSTANDER}
            }}""",
            {"W1": (32, 32), "W2": (32, 32), "B2": (32,)},
        )
    )


def _half() -> onnx.ModelProto:
    model = _cnn()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def _quantized() -> onnx.ModelProto:
    weight = np.random.default_rng(0).integers(-127, 128, (32, 32)).astype(np.int8)
    return dressed(
        model_from_text(
            f"""{_HEAD}
            qdq (float[N,32] x) => (float[N,32] y, float[N,32] aside) {{
              xq = QuantizeLinear (x, xs, xz)
              xd = DequantizeLinear (xq, xs, xz)
              wd = DequantizeLinear (Wq, ws)
              h = MatMul (xd, wd)
              y = Relu (h)
              {_BYSTANDER}
            }}""",
            {
                "xs": np.array(0.03, np.float32),
                "xz": np.array(128, np.uint8),
                "Wq": weight,
                "ws": np.array(0.01, np.float32),
            },
        )
    )


def _nothing() -> onnx.ModelProto:
    """No layer with weights, several kinds of inputs, one of them read by nobody."""
    return dressed(
        model_from_text(
            f"""{_HEAD}
            nothing (float[N,4] x, int64[N,4] index, bool[N,4] mask, float[2] unread)
              => (float[N,4] y, int64[N,4] z, float[N,4] aside) {{
              e = Exp (x)
              y = Where (mask, e, x)
              z = Add (index, index)
              {_BYSTANDER}
            }}"""
        )
    )


def _clutter() -> onnx.ModelProto:
    """What exporters leave: dead nodes, and nodes that depend on constants or fixed sizes."""
    return dressed(
        model_from_text(
            f"""{_HEAD}
            clutter (float[N,4,6] x) => (float[N,24] y, float[N,4,6] aside) {{
              dead = Exp (x)
              deader = Mul (dead, unread)
              half = Constant <value = float {{0.5}}> ()
              quarter = Mul (half, half)
              scaled = Mul (x, quarter)
              sizes = Shape (x)
              first = Constant <value = int64 {{1}}> ()
              four = Gather (sizes, first)
              same = Mul (four, first)
              axis = Constant <value = int64[1] {{0}}> ()
              listed = Unsqueeze (same, axis)
              rest = Constant <value = int64[1] {{6}}> ()
              free = Constant <value = int64[1] {{-1}}> ()
              shape = Concat <axis = 0> (free, listed, rest)
              shaped = Reshape (scaled, shape)
              y = Flatten (shaped)
              {_BYSTANDER}
            }}""",
            {"unread": (6,)},
        )
    )


def _outliers() -> onnx.ModelProto:
    """A few channels far larger than the others, in front of layers with and without neighbours."""
    sizes = np.where(np.arange(32) % 8 == 0, 40, 1).astype(np.float32)
    return dressed(
        model_from_text(
            f"""{_HEAD}
            outliers (float[N,32] x) => (float[N,32] y, float[N,32] aside) {{
              wide = Mul (x, sizes)
              h = MatMul (wide, W1)
              kept = Mul (h, sizes)
              d = MatMul (kept, W2)
              y = Add (d, kept)
              {_BYSTANDER}
            }}""",
            {"sizes": sizes, "W1": (32, 32), "W2": (32, 32)},
        )
    )


def _embedding() -> onnx.ModelProto:
    """A table whose rows are looked up, and a layer behind it."""
    return dressed(
        model_from_text(
            f"""{_HEAD}
            embedding (int64[N,T] index, float[N,4] x) => (float[N,T,40] y, float[N,4] aside) {{
              rows = Gather (Table, index)
              y = MatMul (rows, W)
              {_BYSTANDER}
            }}""",
            {"Table": (64, 32), "W": (32, 40)},
        )
    )


def _function() -> onnx.ModelProto:
    """A layer inside a local function."""
    return onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 13, "local" : 1]>
        caller (float[N,4] x) => (float[N,4] y, float[N,4] aside) {
          h = local.twice (x)
          y = Identity (h)
          aside = Sin (x)
        }
        <domain: "local", opset_import: ["" : 13]>
        twice (a) => (b) { t = Identity (a)  b = Add (t, t) }"""
    )


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "cnn": _cnn,
    "fixed-batch": lambda: _cnn(batch="2"),
    "mlp": _mlp,
    "transformer": _transformer,
    "listed-inputs": _listed,
    "opset-9": _old,
    "constant-nodes": _constants,
    "shared-weights": _shared,
    "bodies": _bodies,
    "float16": _half,
    "quantized": _quantized,
    "no-layers": _nothing,
    "function": _function,
    "clutter": _clutter,
    "outliers": _outliers,
    "embedding": _embedding,
}
"""By name, functions that make a fresh model. Each has a node ``Sin`` that no pass may touch."""
