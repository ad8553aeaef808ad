"""Which outputs are the best ones of something in their order."""

from __future__ import annotations

import pytest
from onnx import parser

from graphopt.facts import shapes
from graphopt.graph.graph import Graph
from graphopt.tasks.reading import read_tasks

PORTS = "(float[1, 40] s, float[1, 40, 4] b, float[4, 4] w)"
PICKED = "<int64[1] k = {5}, int64[1] last = {-1}, int64[3] wide = {1, 1, 4}> { v, i = TopK(s, k) "
LOOKED_UP = "u = Unsqueeze(i, last) e = Expand(u, wide) p = GatherElements<axis = 1>(b, e) "


@pytest.mark.parametrize(
    ("outputs", "body", "expected"),
    [
        (
            "float[1, 5, 4] p, float[1, 5] v, int64[1, 5] c",
            LOOKED_UP + "four = Constant<value_int = 4>() c = Mod(i, four) }",
            {"p": 1, "v": 1, "c": 1},
        ),
        (
            "float[1, 5, 5] y",
            LOOKED_UP + "z = Unsqueeze(v, last) y = Concat<axis = -1>(p, z) }",
            {},  # two axes are as long as that
        ),
        ("float[1, 5, 4] y", LOOKED_UP + "y = MatMul(p, w) }", {}),  # a layer works on it
        ("float[1, 5] v, int64[1, 5] i", "}", {}),  # the best classes of a classifier
    ],
)
def test_what_is_looked_up_by_the_best_scores(
    outputs: str, body: str, expected: dict[str, int]
) -> None:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g {PORTS} => ({outputs}) {PICKED}{body}'
    graph = Graph(parser.parse_model(text))
    tasks = read_tasks(graph, shapes.infer(graph))
    assert {n: task.rows_axis for n, task in tasks.items() if task.sorted_rows} == expected
