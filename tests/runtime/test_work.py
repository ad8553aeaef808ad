"""When onnxruntime does the same for two graphs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.runtime.work import Work, maybe_alike
from graphopt.testing import model_from_text

WEIGHTS = {"w": (16, 16), "v": (16, 12)}
HEAD = '<ir_version: 8, opset_import: ["" : 17]>\ng (float[N, 16] x) => (float[N, 12] y)'
PLAIN = "{ h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"


def graph_of(body: str, weights: Mapping[str, tuple[int, ...]] = WEIGHTS, seed: int = 0) -> Graph:
    return io.load(model_from_text(HEAD + body, weights, seed=seed))


@pytest.mark.parametrize(
    ("body", "same"),
    [
        (PLAIN, True),
        ("{ h = MatMul(x, w) i = Identity(h) r = Relu(i) y = MatMul(r, v) }", True),
        ("{ u = Mul(w, w) h = MatMul(x, u) r = Relu(h) y = MatMul(r, v) }", True),  # folds
        ("{ h = MatMul(x, w) r = Tanh(h) y = MatMul(r, v) }", False),
        ("{ h = MatMul(x, w) y = MatMul(h, v) }", False),
        ("{ h = MatMul(x, w) r = Relu(h) s = Add(r, h) y = MatMul(s, v) }", False),
    ],
)
def test_names_values_and_what_folds_do_not_count(body: str, same: bool) -> None:
    other = graph_of(body, seed=1)
    assert Work(other).equals(Work(graph_of(PLAIN))) is same


def test_shapes_of_weights_count() -> None:
    other = graph_of(PLAIN, {"w": (16, 8), "v": (8, 12)})
    assert not Work(other).equals(Work(graph_of(PLAIN)))


def test_wiring_counts() -> None:
    one = graph_of("{ h = MatMul(x, w) r = Relu(h) t = Add(h, r) y = MatMul(t, v) }")
    other = graph_of("{ h = MatMul(x, w) r = Relu(h) t = Add(r, r) y = MatMul(t, v) }")
    assert not Work(one).equals(Work(other))
    assert Work(one).contains(Work(other))


def test_numbers_that_shape_the_result_count() -> None:
    body = "<int64[2] s = {{{0}, 16}}> {{ h = MatMul(x, w) r = Reshape(h, s) y = MatMul(r, v) }}"
    one, other = (graph_of(body.format(rows)) for rows in (-1, 2))
    assert Work(one).equals(Work(graph_of(body.format(-1))))
    assert not Work(one).equals(Work(other))


def test_bodies_are_looked_into() -> None:
    body = """<bool c = {{1}}, float[4, 4] k> {{
        p = MatMul(x, w)
        q = If(d) <then_branch = t () => (float[N, 16] a) {{ a = {0}(p) }},
                   else_branch = e () => (float[N, 16] b) {{ b = Neg(p) }}>
        y = MatMul(q, v) m = ReduceSum<keepdims = 0>(x) d = Cast<to = 9>(m) }}"""
    body = body.replace("<bool c = {{1}}, float[4, 4] k> ", "")
    relu, again, tanh = (graph_of(body.format(op)) for op in ("Relu", "Relu", "Tanh"))
    assert Work(relu).equals(Work(again))
    assert not Work(relu).equals(Work(tanh))


def test_a_table_of_codes_is_more_work_than_one_of_floats() -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]>\ng (int64[N] x) => (float[N, 8] y)'
    table = io.load(model_from_text(head + "{ y = Gather(t, x) }", {"t": (99, 8)}))
    codes = graph_with_codes(head)
    assert Work(codes).contains(Work(table))
    assert not Work(codes).equals(Work(table))
    assert not Work(table).contains(Work(codes))


def graph_with_codes(head: str) -> Graph:
    text = head + "{ c = Gather(t, x) f = Cast<to = 1>(c) y = Mul(f, s) }"
    model = model_from_text(text, {"t": (99, 8), "s": (8,)})
    graph = io.load(model)
    constant = graph.main.constant("t")
    assert constant is not None
    constant.set(np.ones((99, 8), np.int8))
    return graph


def test_what_is_quantized_cannot_be_alike() -> None:
    dynamic = """{ h = MatMul(x, w) q, s, z = DynamicQuantizeLinear(h)
        r = DequantizeLinear(q, s, z) y = MatMul(r, v) }"""
    assert not maybe_alike(graph_of(dynamic), graph_of(PLAIN))
    assert maybe_alike(graph_of(PLAIN), graph_of(PLAIN, seed=1))
