"""Sizes that a model computes from its shapes are followed where onnx's own inference stops."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.facts.shapes import infer
from graphopt.facts.size_values import compute_sizes
from graphopt.graph.graph import Graph


@pytest.mark.parametrize(
    "body",
    [
        "s = Shape(x) k = Squeeze(s, zero) r = Reshape(k, one) c = Concat <axis = 0> (r, rest)"
        " y = Reshape(x, c)",
        "s = Shape <end = 1> (x) c = Concat <axis = 0> (s, rest) y = Reshape(x, c)",
        "n = Size(x) k = Constant <value_int = 12> () m = Div(n, k) r = Reshape(m, one)"
        " d = Cast <to = 7> (r) c = Concat <axis = 0> (d, rest) y = Reshape(x, c)",
    ],
)
def test_what_a_reshape_is_told(body: str) -> None:
    if "Squeeze" in body:
        body = body.replace("Shape(x)", "Shape <end = 1> (x)")
    text = f"""<ir_version: 8, opset_import: ["" : 18]> g (float[5, 3, 4] x) => (float[A, B] y)
      <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] rest = {{12}}> {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    assert compute_sizes(model)
    assert infer(Graph(model)).static_shape("y") == (5, 12)
    assert [node.op_type for node in model.graph.node] == ["Reshape"]


def test_weights_and_activations_are_not_computed() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[N, 4] x) => (float[N, 4] y)
      { a = Add(w, w) y = Add(x, a) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((80, 4), np.float32), "w"))
    assert not compute_sizes(model)
    assert len(model.graph.node) == 2


def test_what_is_computed_on_the_way_may_be_of_any_type() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[5, 3, 4] x) => (float[A, B] y)
      <float[2] rows = {5, 12}> { b = Cast <to = 16> (rows) r = Reshape(b, two)
        c = Cast <to = 7> (r) y = Reshape(x, c) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2]), "two"))
    assert compute_sizes(model)
    assert infer(Graph(model)).static_shape("y") == (5, 12)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = com.microsoft.SkipLayerNormalization(x, x, g)", (2, 3, 8)),
        ("y = com.microsoft.BiasGelu(x, g)", (2, 3, 8)),
        ("y = com.microsoft.FusedMatMul<transB = 1>(x, w)", (2, 3, 5)),
        ("y = com.microsoft.MultiHeadAttention<num_heads = 2>(x, x, x)", (2, 3, 8)),
    ],
)
def test_operators_of_onnxruntime_have_shapes_too(body: str, shape: tuple[int, ...]) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]>
      g (float[2, 3, 8] x, float[8] g, float[5, 8] w) => (float[A, B, C] z)
      {{ {body} z = Relu(y) }}"""
    model = onnx.parser.parse_model(text)
    assert compute_sizes(model)
    assert infer(Graph(model)).static_shape("z") == shape
