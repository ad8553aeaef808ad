from __future__ import annotations

import numpy as np
import pytest

from graphopt.bridge import roles
from graphopt.graph import io
from graphopt.graph.tensors import Array
from graphopt.testing import model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
ROW = np.array([0.5, 2.0, 3.0, 4.0], np.float32)
TABLE = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)
MASK = np.triu(np.full((4, 4), -1e9, np.float32), 1)


@pytest.mark.parametrize(
    ("body", "constants", "weights"),
    [
        ("y = MatMul (x, W)", {"W": TABLE}, ["W"]),
        ("y = MatMul (W, x)", {"W": TABLE}, ["W"]),
        ("t = Transpose (W)  y = MatMul (x, t)", {"W": TABLE}, ["W"]),
        ("y = Gemm (x, W, B)", {"W": TABLE, "B": ROW}, ["W", "B"]),
        ("y = Add (x, B)", {"B": ROW}, ["B"]),
        ("y = Mul (x, S)", {"S": ROW}, ["S"]),
        ("y = Mul (x, S)", {"S": np.float32(2)}, []),
        ("y = Mul (x, S)", {"S": TABLE}, []),
        ("y = Add (x, P)", {"P": TABLE}, []),
        ("p = Add (x, P)  y = MatMul (p, W)", {"P": TABLE, "W": TABLE}, ["P", "W"]),
        ("p = Add (x, M)  s = Softmax (p)  y = MatMul (s, x)", {"M": MASK}, []),
        ("p = Add (x, M)  s = Softmax (p)  y = MatMul (s, x)", {"M": 0 * MASK}, []),
        ("p = Add (x, M)  s = Softmax (p)  y = MatMul (s, x)", {"M": TABLE}, ["M"]),
        ("y = Div (x, D)", {"D": ROW}, []),
        ("y = Sub (x, D)", {"D": ROW}, []),
        ("y = Pow (x, D)", {"D": ROW}, []),
        ("y = Clip (x, L, H)", {"L": np.float32(0), "H": np.float32(6)}, []),
        ("a = MatMul (x, F)  y = Cos (a)", {"F": TABLE}, []),
        ("m = MatMul (x, W)  y = Add (m, B)", {"W": TABLE[:, :1], "B": ROW[:1]}, ["W", "B"]),
        ("y = PRelu (x, A)", {"A": ROW}, ["A"]),
        ("y = LayerNormalization (x, S, B)", {"S": ROW, "B": ROW}, ["S", "B"]),
        ("i = Cast <to = 7> (x)  y = Gather (T, i)", {"T": TABLE}, ["T"]),
        ("i = Cast <to = 7> (x)  y = Gather (T, i)", {"T": ROW}, []),
        ("c = Concat <axis = 0> (x, T)  y = MatMul (c, W)", {"T": TABLE, "W": TABLE}, ["T", "W"]),
        ("y = MatMul (x, W)", {"W": TABLE.astype(np.int32)}, []),
    ],
)
def test_the_reader_decides(body: str, constants: dict[str, Array], weights: list[str]) -> None:
    text = f"{HEAD} net (float[4,4] x) => (float y) {{ {body} }}"
    found = roles(io.load(model_from_text(text, constants)))
    assert found.weights == weights
    assert found.statistics == []


def test_what_batch_normalization_keeps_is_a_statistic() -> None:
    text = f"""{HEAD} net (float[4,4] x) => (float y) {{
      y = BatchNormalization (x, s, b, m, v)
    }}"""
    found = roles(io.load(model_from_text(text, dict.fromkeys("sbmv", ROW))))
    assert (found.weights, found.statistics) == (["s", "b"], ["m", "v"])
