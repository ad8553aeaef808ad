"""What the states of loops are as large as."""

from __future__ import annotations

import pytest
from onnx import parser

from graphopt.facts.loop_states import settle_states
from graphopt.facts.shapes import infer
from graphopt.facts.sized import sized
from graphopt.graph.graph import Graph

LOOP = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 4] x) => (float[n, k] y)
<int64 times = {{3}}, bool true = {{1}}, float[4, 4] w = {{{weight}}}>
{{
    y = Loop(times, true, x) <
      body = b (int64 i, bool go, float[r, c] s) => (bool on, float[t, u] z) {{
        on = Identity(go)
        m = MatMul(s, w)
        z = {step}
    }}>
}}"""
WEIGHT = ", ".join(["0.5"] * 16)


@pytest.mark.parametrize(
    ("step", "macs"),
    [("Tanh(m)", 3 * 2 * 16), ("Concat<axis = 0>(m, m)", None)],
)
def test_a_state_that_keeps_its_shape_is_as_large_in_every_round(
    step: str, macs: int | None
) -> None:
    graph = Graph(parser.parse_model(LOOP.format(weight=WEIGHT, step=step)))
    assert sized(graph, {"x": (2, 4)}).macs.total == macs


def test_what_grows_is_declared_as_it_was() -> None:
    model = parser.parse_model(LOOP.format(weight=WEIGHT, step="Concat<axis = 0>(m, m)"))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    before = model.SerializeToString(deterministic=True)
    assert not settle_states(model, infer(Graph(model)))
    assert model.SerializeToString(deterministic=True) == before
