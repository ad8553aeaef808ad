"""Scores in front of outputs that give only the largest of them."""

from __future__ import annotations

import pytest
from onnx import parser

from graphopt.facts import shapes
from graphopt.graph.graph import Graph
from graphopt.tasks.decided import decided_scores

MAP = "float[N,5,8,8] x"


def found(ports: str, body: str, opset: int = 17) -> dict[str, tuple[str, int | None]]:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g {ports} <int64[1] k = {{2}}> {body}'
    graph = Graph(parser.parse_model(text))
    tasks = decided_scores(graph, shapes.infer(graph))
    assert all(task.form == "logits" for task in tasks.values())
    assert all((task.axis is None) == (task.kind == "binary") for task in tasks.values())
    return {name: (task.output, task.axis) for name, task in tasks.items()}


@pytest.mark.parametrize(
    ("ports", "body", "scores"),
    [
        (
            f"({MAP}) => (uint8[N,8,8] y)",
            "{ s = Tanh (x) a = ArgMax <axis = 1, keepdims = 0> (s) y = Cast <to = 2> (a) }",
            {"y": ("s", 1)},
        ),
        (
            f"({MAP}) => (int64[N,5,8,1] y)",
            "{ s = Tanh (x) p = Softmax (s) y = ArgMax <axis = -1> (p) }",
            {"y": ("s", 3)},
        ),
        (
            f"({MAP}) => (int64[N,1,8,8] y)",
            "{ s = Tanh (x) p = Softmax <axis = 2> (s) y = ArgMax <axis = 1> (p) }",
            {"y": ("p", 1)},
        ),
        (
            "(float[N,9] x) => (float[N,2] top, int64[N,2] y)",
            "{ s = Tanh (x) p = Sigmoid (s) top, y = TopK (p, k) }",
            {"y": ("s", 1)},
        ),
        (
            "(float[N,9] x) => (int64[N,2] y)",
            "{ s = Tanh (x) top, y = TopK <largest = 0> (s, k) }",
            {},
        ),
        ("(float[N,9] x) => (int64[N,1] y)", "{ s = Tanh (x) y = ArgMin <axis = 1> (s) }", {}),
        ("(float[N,9] x) => (float[N,9] y)", "{ y = Tanh (x) }", {}),
        (
            f"({MAP}) => (bool[N,5,8,8] y)",
            "{ s = Tanh (x) z = Constant <value_float = 0.0> () y = Greater (s, z) }",
            {"y": ("s", None)},
        ),
        (
            "(float[N,9] x) => (uint8[N,9] y)",
            "{ s = Tanh (x) p = Sigmoid (s) h = Constant <value_float = 0.5> () "
            "g = GreaterOrEqual (p, h) y = Cast <to = 2> (g) }",
            {"y": ("s", 1)},
        ),
        (
            "(float[N,9] x) => (bool[N,9] y)",
            "{ s = Tanh (x) p = Sigmoid (s) h = Constant <value_float = 0.7> () "
            "y = Greater (p, h) }",
            {},
        ),
        ("(float[N,9] x) => (bool[N,9] y)", "{ s = Tanh (x) y = Greater (s, x) }", {}),
    ],
)
def test_scores_are_found_through_what_changes_no_order(
    ports: str, body: str, scores: dict[str, tuple[str, int]]
) -> None:
    assert found(ports, body) == scores


@pytest.mark.parametrize(("shape", "scores"), [("N,9", "s"), ("N,9,4", "p")])
def test_an_old_softmax_shares_over_all_axes_behind_its_own(shape: str, scores: str) -> None:
    body = "{ s = Tanh (x) p = Softmax <axis = 1> (s) y = ArgMax <axis = 1> (p) }"
    assert found(f"(float[{shape}] x) => (int64 y)", body, opset=11) == {"y": (scores, 1)}
