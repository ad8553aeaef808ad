"""Tensors under other names: every place that names one follows, the answers stay."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser

from graphopt.graph import io
from graphopt.graph.check import problems
from graphopt.graph.graph import Graph
from graphopt.rewrite.rename import rename_tensors
from graphopt.runtime.session import Session
from graphopt.testing import MODELS

SWAPPED = """<ir_version: 8, opset_import: ["" : 17]>
two (float[2] a, float[2] b) => (float[2] c, float[2] d) {
    inner = Sub (a, b)
    c = Identity (inner)
    d = Neg (inner)
}"""
BODY = """<ir_version: 8, opset_import: ["" : 17]>
choice (bool flag, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
    y = If (flag) <
        then_branch = then () => (float[2] z) { z = Add (x, w) },
        else_branch = other () => (float[2] v) { v = Sub (x, w) }
    >
}"""


def graph_of(text: str) -> Graph:
    return io.load(onnx.parser.parse_model(text))


def test_inputs_and_outputs_have_other_names_and_the_same_answers() -> None:
    graph = io.load(MODELS["cnn"]())
    (name,) = (value.name for value in graph.required_inputs)
    renamed = graph.copy()
    rename_tensors(renamed, {name: "picture", "y": "scores"})
    assert [value.name for value in renamed.required_inputs] == ["picture"]
    assert renamed.main.outputs == ["scores", "aside"]
    assert problems(renamed) == []
    shape = [d.dim_value or 1 for d in graph.required_inputs[0].type.tensor_type.shape.dim]
    feed = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    before, after = Session(graph).run({name: feed}), Session(renamed).run({"picture": feed})
    np.testing.assert_array_equal(after["scores"], before["y"])


def test_names_can_be_swapped() -> None:
    graph = graph_of(SWAPPED)
    rename_tensors(graph, {"a": "b", "b": "a", "c": "d", "d": "c"})
    assert (graph.main.inputs, graph.main.outputs) == (["b", "a"], ["d", "c"])
    a, b = np.array([1, 2], np.float32), np.array([5, 7], np.float32)
    found = Session(graph).run({"b": a, "a": b})
    np.testing.assert_array_equal(found["c"], b - a)


def test_a_tensor_that_is_in_the_way_gets_a_fresh_name() -> None:
    graph = graph_of(SWAPPED)
    rename_tensors(graph, {"a": "inner"})
    assert problems(graph) == []
    assert graph.main.nodes[0].input[0] == "inner"
    assert graph.main.nodes[0].output[0] == "inner_1"
    assert graph.unique_name("inner") == "inner_2"


def test_bodies_follow_with_what_they_read_from_outside() -> None:
    graph = graph_of(BODY)
    rename_tensors(graph, {"x": "v", "w": "z"})
    assert problems(graph) == []
    x = np.ones(2, np.float32)
    for flag, wanted in ((True, [2, 3]), (False, [0, -1])):
        found = Session(graph).run({"flag": np.array(flag), "v": x})
        np.testing.assert_array_equal(found["y"], np.array(wanted, np.float32))


def test_copies_of_the_graph_keep_their_names() -> None:
    graph = graph_of(BODY)
    twin = graph.copy()
    rename_tensors(twin, {"w": "weight"})
    assert list(graph.main.initializers) == ["w"]
    assert graph.main.initializers["w"].name == "w"
    assert twin.main.initializers["weight"].name == "weight"


def test_no_names_change_nothing() -> None:
    graph = graph_of(BODY)
    before = graph.to_model()
    rename_tensors(graph, {"x": "x"})
    assert graph.to_model() == before
