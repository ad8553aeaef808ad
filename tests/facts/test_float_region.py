"""Which tensors change their type together."""

from __future__ import annotations

import onnx.parser
import pytest
from onnx import TensorProto

from graphopt.facts.float_region import float_region
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph

HEAD = '<ir_version: 10, opset_import: ["" : 19, "own" : 1]> g'
NETWORK = f"""{HEAD} (float16[4] x, float[4] f, bool c) => (float16[4] y) {{
    a = Abs(x) b = Cast<to = 1>(a) d = Neg(x) e = Cast<to = 10>(f) k = Exp(e)
    y = If(c) <then_branch = t () => (float16[4] p) {{ p = Sqrt(a) }},
               else_branch = u () => (float16[4] q) {{ q = Identity(a) }}>
}}"""
UNKNOWN = f"""{HEAD} (float16[4] x) => (float16[4] y) {{ a = Abs(x) m = own.Op(a) y = Neg(m) }}"""
FLOATS = f"""{HEAD} (float[4] x) => (float[4] y) {{ m = own.Op(x) y = Neg(m) }}"""


@pytest.mark.parametrize(
    ("text", "around", "region"),
    [
        (NETWORK, ["a"], {"a", "y", "p", "q"}),
        (NETWORK, ["p"], {"a", "y", "p", "q"}),
        (NETWORK, ["d"], {"d"}),
        (NETWORK, ["e"], {"e", "k"}),
        (NETWORK, ["b", "x", "nothing"], set()),
        (NETWORK, None, {"a", "y", "p", "q", "d", "e", "k"}),
        (UNKNOWN, ["y"], {"a", "m", "y"}),
        (FLOATS, None, set()),
    ],
)
def test_what_hangs_together(text: str, around: list[str] | None, region: set[str]) -> None:
    graph = Graph(onnx.parser.parse_model(text))
    assert float_region(graph, {TensorProto.FLOAT16}, infer(graph), around) == region
