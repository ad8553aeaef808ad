"""Which recurrent layers have an integer form; what becomes of them is tested with the pass."""

from __future__ import annotations

import onnx.parser
import pytest

from graphopt.facts.layers import Layer, layers
from graphopt.graph.graph import Graph
from graphopt.rewrite.integer_lstm import recurrent_refusal

SIZES = {"w": "1, 8, 3", "r": "1, 8, 2", "u": "1, 3, 8"}
WEIGHTS = ", ".join(
    f"float[{sizes}] {name} = {{{', '.join(['0.5'] * (16 if name == 'r' else 24))}}}"
    for name, sizes in SIZES.items()
)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = LSTM <hidden_size = 2> (x, w, r)", None),
        ("y = LSTM <hidden_size = 2, layout = 1> (x, w, r)", "its layout is 1"),
        ("c = Relu(v) y = LSTM <hidden_size = 2> (x, c, r)", "one of its weights is computed"),
        (
            "t = Transpose <perm = [0, 2, 1]> (u) y = LSTM <hidden_size = 2> (x, t, r)",
            "a Transpose stands behind its weight",
        ),
    ],
)
def test_refusals(body: str, reason: str | None) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[5, 1, 3] x, float[1, 8, 3] v) => (float[5, 1, 1, 2] y) <{WEIGHTS}> {{ {body} }}"""
    graph = Graph(onnx.parser.parse_model(text))
    found = [each for each in layers(graph) if isinstance(each, Layer)]
    refusal = recurrent_refusal(graph.main.nodes[-1], found)
    if reason is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.reason.startswith(reason)
