"""What rounding makes of constants, by what they are computed in."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from graphopt.facts import shapes
from graphopt.graph.graph import Graph
from graphopt.tasks.reading import read_tasks
from graphopt.tasks.rounding import rounding_of, roundings

HALF, BRAIN, SINGLE, DOUBLE = 2.0**-12, 2.0**-9, 2.0**-20, 2.0**-40


@pytest.mark.parametrize(
    ("given", "body", "kind", "rounding"),
    [
        ("float", "y = Relu(x)", "float", SINGLE),
        ("double", "y = Relu(x)", "double", DOUBLE),
        ("float16", "y = Relu(x)", "float16", HALF),
        ("float16", "a = Relu(x) y = Cast<to = 1>(a)", "float", HALF),
        ("float", "a = Cast<to = 16>(x) b = Cast<to = 1>(a) y = Relu(b)", "float", BRAIN),
        ("float", "a = Relu(x) y = Cast<to = 11>(a)", "double", SINGLE),
        ("float16", "a = Cast<to = 1>(x) y = Relu(a)", "float", SINGLE),  # what is given is exact
    ],
)
def test_the_coarsest_type_on_the_way_rounds(
    given: str, body: str, kind: str, rounding: float
) -> None:
    ports = f"({given}[n, 4] x) => ({kind}[n, 4] y)"
    graph = Graph(
        parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {ports} {{ {body} }}')
    )
    assert roundings(graph.main, shapes.infer(graph))["y"] == rounding
    assert read_tasks(graph, shapes.infer(graph))["y"].rounding == rounding


def test_constants_are_not_rounded_here() -> None:
    graph = Graph(
        parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 2] x) => (float[n, 2] y)'
            "<float16[2] h = {1, 2}> { w = Cast<to = 1>(h) y = Mul(x, w) }"
        )
    )
    assert roundings(graph.main, shapes.infer(graph)) == {"y": SINGLE}


def test_what_numpy_holds_where_nothing_else_is_known() -> None:
    kinds = (np.float16, np.float32, np.float64)
    assert [rounding_of(np.dtype(kind)) for kind in kinds] == [HALF, SINGLE, DOUBLE]
