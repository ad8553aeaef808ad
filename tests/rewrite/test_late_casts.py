"""What only moves elements of half floats works on these, and the Cast stands behind it."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.graph import check, io
from graphopt.graph.graph import Graph
from graphopt.rewrite.late_casts import cast_late, merge_casts
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

VALUES = {
    "w": np.arange(24).reshape(4, 6).astype(np.float16),
    "half": np.array([2, 2]),
    "shape": np.array([3, 8]),
    "pads": np.array([1, 0, 0, 0]),
    "one": np.ones((), np.float32),
}
MOVED = {
    "v = Cast<to=1>(w) a, b = Split<axis=0>(v, half) c = Add(a, b) y = Mul(c, x)":
        "Split Cast Cast",
    "v = Cast<to=1>(w) r = Reshape(v, shape) t = Transpose(r) y = Mul(t, x)":
        "Reshape Transpose Cast",
    "v = Cast<to=1>(w) t = Transpose(v) z = Add(v, x) y = Mul(t, x)": "Transpose Cast Cast",
    "v = Cast<to=1>(w) q = Identity(v) y = Transpose(q)": "Identity Transpose Cast",
    "v = Cast<to=1>(w) p = Pad(v, pads) y = Mul(p, x)": "Pad Cast",
}  # fmt: skip
LEFT = [
    "v = Cast<to=1>(w) y = Mul(v, x)",
    "v = Cast<to=1>(w) i = Cast<to=7>(x) y = Gather(v, i)",
    "v = Cast<to=1>(w) y = Pad(v, pads, one)",
    "v = Cast<to=11>(w) t = Transpose(v) y = Cast<to=1>(t)",
    "v = Cast<to=1>(w) y = Concat<axis=0>(v, v)",
]


def graph_of(body: str, opset: int = 17) -> Graph:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float x) => (float y) {{ {body} }}'
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return io.load(model_from_text(text, {n: v for n, v in VALUES.items() if n in words}))


def answer(graph: Graph) -> np.ndarray:
    return np.asarray(Session(graph, threads=1).run({"x": np.ones((), np.float32)})["y"])


@pytest.mark.parametrize("body", MOVED)
def test_moves_work_on_half_floats(body: str) -> None:
    graph = graph_of(body)
    expected = answer(graph)
    nodes = cast_late(graph)
    assert nodes and check.problems(graph) == []
    kinds = [n.op_type for n in graph.main.nodes if n.op_type not in ("Add", "Mul")]
    assert sorted(kinds) == sorted(MOVED[body].split())
    np.testing.assert_array_equal(answer(graph), expected)
    assert cast_late(graph) == []


@pytest.mark.parametrize("body", LEFT)
def test_all_else_reads_what_it_read(body: str) -> None:
    graph = graph_of(body)
    before = graph.to_model()
    assert cast_late(graph) == []
    assert graph.to_model() == before


def test_older_operators_are_left_alone() -> None:
    assert cast_late(graph_of("v = Cast<to=1>(w) t = Transpose(v) y = Mul(t, x)", 12)) == []


def test_one_cast_of_a_constant_is_enough() -> None:
    graph = graph_of(
        "v = Cast<to=1>(w) u = Cast<to=1>(w) a = Add(u, x) b = Mul(v, x) y = Add(a, b)"
    )
    expected = answer(graph)
    assert [node.output[0] for node in merge_casts(graph)] == ["u"]
    assert [node.op_type for node in graph.main.nodes] == ["Cast", "Add", "Mul", "Add"]
    np.testing.assert_array_equal(answer(graph), expected)
    assert merge_casts(graph) == []
    output = graph_of("v = Cast<to=1>(w) y = Cast<to=1>(w)")
    assert merge_casts(output) == []
