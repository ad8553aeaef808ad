"""A small decoder of the Llama kind, as exporters write one with its past as inputs."""

from __future__ import annotations

import numpy as np
import onnx

from graphopt.testing.text import BYSTANDER, HEAD, dressed, model_from_text

__all__ = ["decoder"]

_DIM, _WIDTH, _HIDDEN, _VOCABULARY = 32, 16, 48, 64
_LOUD_TOKENS, _LOUD = 8, 30.0


def _norm(source: str, scale: str, to: str) -> str:
    """RMS normalization in the parts that exporters leave it in."""
    return f"""
      {to}_square = Pow ({source}, two)
      {to}_mean = ReduceMean <axes = [-1]> ({to}_square)
      {to}_sum = Add ({to}_mean, epsilon)
      {to}_root = Sqrt ({to}_sum)
      {to}_inverse = Reciprocal ({to}_root)
      {to}_even = Mul ({source}, {to}_inverse)
      {to} = Mul ({scale}, {to}_even)"""


def decoder() -> onnx.ModelProto:
    """One block with RMS norms, grouped heads and a gated unit; the table is also the head.

    Every eighth token makes the inner values of the gated unit a thousand times as large as others
    do, and two channels of the norms stand out: decoders that were trained have both.
    """
    rng = np.random.default_rng(0)
    table = rng.normal(size=(_VOCABULARY, _DIM)).astype(np.float32)
    table[:, 0] = 0
    table[::_LOUD_TOKENS, 0] = _LOUD
    gate, up = (rng.normal(size=(_DIM, _HIDDEN)).astype(np.float32) / 6 for _ in range(2))
    gate[0], up[0] = 0, 0
    gate[0, 3] = up[0, 3] = 8
    scale = np.ones(_DIM, np.float32)
    scale[[5, 9]] = 20
    model = model_from_text(
        f"""{HEAD}
        decoder (int64[N,T] tokens, float[N,1,P,{_WIDTH}] past_key,
                 float[N,1,P,{_WIDTH}] past_value, float[N,4] x)
            => (float[N,T,{_VOCABULARY}] logits, float[N,1,S,{_WIDTH}] present_key,
                float[N,1,S,{_WIDTH}] present_value, float[N,4] aside) {{
          h = Gather (Table, tokens)
          {_norm("h", "Scale1", "a")}
          q = MatMul (a, Wq)
          k = MatMul (a, Wk)
          v = MatMul (a, Wv)
          q_heads = Reshape (q, two_heads)
          k_heads = Reshape (k, one_head)
          v_heads = Reshape (v, one_head)
          queries = Transpose <perm = [0, 2, 1, 3]> (q_heads)
          keys = Transpose <perm = [0, 2, 1, 3]> (k_heads)
          values = Transpose <perm = [0, 2, 1, 3]> (v_heads)
          present_key = Concat <axis = 2> (past_key, keys)
          present_value = Concat <axis = 2> (past_value, values)
          turned = Transpose <perm = [0, 1, 3, 2]> (present_key)
          products = MatMul (queries, turned)
          scores = Mul (products, quarter)
          shares = Softmax <axis = -1> (scores)
          mixed = MatMul (shares, present_value)
          together = Transpose <perm = [0, 2, 1, 3]> (mixed)
          o_in = Reshape (together, joined)
          o = MatMul (o_in, Wo)
          h1 = Add (h, o)
          {_norm("h1", "Scale2", "b")}
          gate = MatMul (b, Wgate)
          up = MatMul (b, Wup)
          opened = Sigmoid (gate)
          silu = Mul (gate, opened)
          inner = Mul (silu, up)
          down = MatMul (inner, Wdown)
          h2 = Add (h1, down)
          {_norm("h2", "Scale3", "c")}
          head = Transpose <perm = [1, 0]> (Table)
          logits = MatMul (c, head)
          {BYSTANDER}
        }}""",
        {
            "Table": table,
            "Scale1": scale,
            "Scale2": np.ones(_DIM, np.float32),
            "Scale3": scale[::-1].copy(),
            "Wq": (_DIM, _DIM),
            "Wk": (_DIM, _WIDTH),
            "Wv": (_DIM, _WIDTH),
            "Wo": (_DIM, _DIM),
            "Wgate": gate,
            "Wup": up,
            "Wdown": (_HIDDEN, _DIM),
            "two": np.array(2, np.float32),
            "epsilon": np.array(1e-5, np.float32),
            "quarter": np.array(0.25, np.float32),
            "two_heads": np.array([0, 0, 2, _WIDTH]),
            "one_head": np.array([0, 0, 1, _WIDTH]),
            "joined": np.array([0, 0, _DIM]),
        },
    )
    return dressed(model)
