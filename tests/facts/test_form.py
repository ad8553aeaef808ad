"""How a model is called by the numbers that it computes with."""

from __future__ import annotations

import onnx.parser
import pytest

from graphopt.facts.form import model_form
from graphopt.graph.graph import Graph

Q = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
W = "v = DequantizeLinear(i, s)"
CONSTANTS = """<float s = {0.1}, uint8 z = {3}, int8[2, 2] i = {1, 2, 3, 4},
    float[2, 2] w = {1, 2, 3, 4}, float[1, 4, 1] k = {1, 2, 3, 4}, float[1, 4, 1] r = {1, 2, 3, 4},
    float[2, 2] u = {1, 2, 3, 4}, double[2, 2] g = {1, 2, 3, 4},
    bfloat16[2, 2] h = {1, 2, 3, 4}>"""


@pytest.mark.parametrize(
    ("body", "name", "layers", "integers"),
    [
        ("y = MatMul(x, w)", "float", 1, 0),
        ("v = Cast<to = 10>(w) d = Cast<to = 10>(x) a = MatMul(d, v) y = Cast<to = 1>(a)",
         "float", 1, 0),
        ("v = Cast<to = 1>(h) y = MatMul(x, v)", "bfloat16", 1, 0),
        ("d = Cast<to = 11>(x) a = MatMul(d, g) y = Cast<to = 1>(a)", "double", 1, 0),
        (f"{W} y = MatMul(x, v)", "weight-only", 1, 1),
        (f"{W} a = MatMul(x, v) y = MatMul(a, w)", "weight-only", 2, 1),
        (f"{Q} {W} y = MatMul(d, v)", "qdq", 1, 1),
        ("a, b, c = DynamicQuantizeLinear(x) e = MatMulInteger(a, i, c) y = Cast <to = 1> (e)",
         "dynamic", 1, 1),
        ("t = Unsqueeze(x, one) a, b, c = LSTM <hidden_size = 1> (t, k, r) y = Squeeze(b, zero)",
         "float", 1, 0),
        ("y = Relu(x)", "float", 0, 0),
    ],
)  # fmt: skip
def test_form(body: str, name: str, layers: int, integers: int) -> None:
    constants = CONSTANTS.replace(">", ", int64[1] one = {2}, int64[1] zero = {0}>")
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[2, 2] x) => (float[2, 2] y) {constants} {{ {body} }}"""
    form = model_form(Graph(onnx.parser.parse_model(text)))
    assert (form.name, form.layers, form.integers) == (name, layers, integers)
    assert form.quantized is (name in ("qdq", "dynamic"))
