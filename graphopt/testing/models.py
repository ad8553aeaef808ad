"""Tiny models, each with one habit of real files that passes have to cope with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from graphopt.testing import networks
from graphopt.testing.decoders import decoder
from graphopt.testing.text import BYSTANDER, HEAD, dressed, model_from_text, random_weight

__all__ = ["MODELS"]


def _shared() -> onnx.ModelProto:
    return dressed(
        model_from_text(
            f"""{HEAD}
            shared (float[N,32] x) => (float[N,32] y, float[N,32] aside) {{
              h1 = MatMul (x, W)
              r1 = Relu (h1)
              h2 = MatMul (r1, W)
              r2 = Relu (h2)
              h3 = Gemm (r2, W, B)
              h4 = MatMul (h3, Twin)
              y = Tanh (h4)
              {BYSTANDER}
            }}""",
            {"W": (32, 32), "B": (32,), "Twin": random_weight((32, 32), np.random.default_rng(0))},
        )
    )


def _bodies() -> onnx.ModelProto:
    """Layers inside If and Loop bodies that capture weights from outside."""
    return dressed(
        model_from_text(
            f"""{HEAD}
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
              {BYSTANDER}
            }}""",
            {"W1": (32, 32), "W2": (32, 32), "B2": (32,)},
        )
    )


def _quantized() -> onnx.ModelProto:
    weight = np.random.default_rng(0).integers(-127, 128, (32, 32)).astype(np.int8)
    return dressed(
        model_from_text(
            f"""{HEAD}
            qdq (float[N,32] x) => (float[N,32] y, float[N,32] aside) {{
              xq = QuantizeLinear (x, xs, xz)
              xd = DequantizeLinear (xq, xs, xz)
              wd = DequantizeLinear (Wq, ws)
              h = MatMul (xd, wd)
              y = Relu (h)
              {BYSTANDER}
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
            f"""{HEAD}
            nothing (float[N,4] x, int64[N,4] index, bool[N,4] mask, float[2] unread)
              => (float[N,4] y, int64[N,4] z, float[N,4] aside) {{
              e = Exp (x)
              y = Where (mask, e, x)
              z = Add (index, index)
              {BYSTANDER}
            }}"""
        )
    )


def _clutter() -> onnx.ModelProto:
    """What exporters leave: dead nodes, and nodes that depend on constants or fixed sizes."""
    return dressed(
        model_from_text(
            f"""{HEAD}
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
              {BYSTANDER}
            }}""",
            {"unread": (6,)},
        )
    )


def _outliers() -> onnx.ModelProto:
    """A few channels far larger than the others, in front of layers with and without neighbours."""
    sizes = np.where(np.arange(32) % 8 == 0, 40, 1).astype(np.float32)
    return dressed(
        model_from_text(
            f"""{HEAD}
            outliers (float[N,32] x) => (float[N,32] y, float[N,32] aside) {{
              wide = Mul (x, sizes)
              h = MatMul (wide, W1)
              kept = Mul (h, sizes)
              d = MatMul (kept, W2)
              y = Add (d, kept)
              {BYSTANDER}
            }}""",
            {"sizes": sizes, "W1": (32, 32), "W2": (32, 32)},
        )
    )


def _embedding() -> onnx.ModelProto:
    """A table whose rows are looked up, and a layer behind it."""
    return dressed(
        model_from_text(
            f"""{HEAD}
            embedding (int64[N,T] index, float[N,4] x) => (float[N,T,40] y, float[N,4] aside) {{
              rows = Gather (Table, index)
              y = MatMul (rows, W)
              {BYSTANDER}
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


def _functions() -> onnx.ModelProto:
    """Layers inside local functions: weights handed in and constants inside, called twice."""
    made = model_from_text(
        f"""<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        caller (float[N,32] x) => (float[N,32] y, float[N,32] aside) {{
          h = local.dense <scale = 0.5> (x, W1, B1)
          g = local.block (h)
          r = local.block (g)
          y = local.twice (r)
          {BYSTANDER}
        }}
        <domain: "local", opset_import: ["" : 17]>
        dense <scale> (a, w, b) => (c) {{
          f = Constant <value_float: float = @scale> ()
          m = MatMul (a, w)  s = Mul (m, f)  t = Add (s, b)  c = Relu (t)
        }}
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        block (a) => (b) {{
          w = Constant <value = float[32,32] {{{", ".join(["0.125", "-0.25"] * 512)}}}> ()
          d = Constant <value = float[1] {{0.5}}> ()
          b = local.dense <scale = 2.0> (a, w, d)
        }}
        <domain: "local", opset_import: ["" : 17]>
        twice (a) => (b) {{ t = Identity (a)  b = Add (t, t) }}""",
        {"W1": (32, 32), "B1": (32,)},
    )
    return dressed(made)


def _einsums() -> onnx.ModelProto:
    """Products written as Einsum: plain, split into heads and back, as a Conv, with a batch."""
    return dressed(
        model_from_text(
            f"""<ir_version: 8, opset_import: ["" : 17]>
            einsums (float[N,6,32] x) => (float[N,6,32] y, float[N,6,32] aside) {{
              q = Einsum <equation = "bsd,dhk->bhsk"> (x, Wq)
              k = Einsum <equation = "...d,df->...f"> (x, Wk)
              s = Einsum <equation = "bhsk,hkv->bhsv"> (q, Wh)
              m = Einsum <equation = "bhsv,hvd->bsd"> (s, Wo)
              c = Einsum <equation = "oc,bcs->bos"> (Wc, m)
              z = Einsum <equation = "bsd,btd->bst"> (c, k)
              y = Einsum <equation = "bst,btd->bsd"> (z, x)
              {BYSTANDER}
            }}""",
            {"Wq": (32, 4, 8), "Wk": (32, 32), "Wh": (4, 8, 8), "Wo": (4, 8, 32), "Wc": (6, 6)},
        )
    )


def _hard_swish() -> onnx.ModelProto:
    """Hard swish and hard sigmoid as exporters spell them out, between layers."""
    scalars = {"three": 3, "zero": 0, "six": 6, "sixth": 1 / 6, "half": 0.5, "one": 1}
    return dressed(
        model_from_text(
            f"""<ir_version: 8, opset_import: ["" : 17]>
            gates (float[N,32] x) => (float[N,32] y, float[N,32] aside) {{
              h = MatMul (x, W1)
              a = Add (h, three)  c = Clip (a, zero, six)  m = Mul (h, c)  s = Div (m, six)
              g = MatMul (s, W2)
              p = Mul (g, sixth)  o = Add (half, p)  r = Clip (o, zero, one)
              y = Mul (r, s)
              {BYSTANDER}
            }}""",
            {
                "W1": (32, 32),
                "W2": (32, 32),
                **{name: np.array(value, np.float32) for name, value in scalars.items()},
            },
        )
    )


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "cnn": networks.cnn,
    "fixed-batch": lambda: networks.cnn(batch="2"),
    "mlp": networks.mlp,
    "transformer": networks.transformer,
    "listed-inputs": networks.listed_inputs,
    "opset-9": networks.old_operators,
    "constant-nodes": networks.constants_in_nodes,
    "shared-weights": _shared,
    "bodies": _bodies,
    "float16": networks.half_precision,
    "quantized": _quantized,
    "no-layers": _nothing,
    "function": _function,
    "functions": _functions,
    "hard-swish": _hard_swish,
    "einsums": _einsums,
    "clutter": _clutter,
    "outliers": _outliers,
    "embedding": _embedding,
    "decoder": decoder,
}
"""By name, functions that make a fresh model. Each has a node ``Sin`` that no pass may touch."""
