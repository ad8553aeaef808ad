from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.facts.half_nodes import HalfNodes, half_nodes
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.testing import MODELS, model_from_text

W = {"w": (4, 4)}


def found(text: str, opset: int = 17, kind: str = "float16", **constants: Any) -> HalfNodes:
    parts = {name: value for name, value in ({**W, **constants}).items() if name in text}
    graph = Graph(model_from_text(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}', parts))
    return half_nodes(graph, infer(graph), kind)


def types(nodes: HalfNodes) -> list[str]:
    return [each.node.op_type for each in nodes.nodes]


def reasons(nodes: HalfNodes) -> dict[str, str]:
    return {node.op_type: reason for node, reason in nodes.kept}


def test_the_schema_says_which_operands_follow() -> None:
    nodes = found(
        "(float[1,4,4,4] x) => (float[1,4,8,8] y){ y = Resize(x, , s) }",
        s=np.array([1, 1, 2, 2], np.float32),
    )
    (each,) = nodes.nodes
    assert (each.reads, each.makes) == ((0,), (0,))  # the scales are float32 by definition


@pytest.mark.parametrize(
    ("text", "kind", "opset", "reason"),
    [
        (
            "(float[2,4] x) => (float[2,4] y) { y = MeanVarianceNormalization(x) }",
            "bfloat16",
            9,
            "ONNX defines MeanVarianceNormalization for no bfloat16 at opset 9",
        ),
        (
            "(float[1,4,4,4] x) => (float[1,4,4,4] y) { y = MaxPool<kernel_shape=[1,1]>(x) }",
            "bfloat16",
            17,
            "ONNX defines MaxPool for no bfloat16 at opset 17",
        ),
        (
            "(float[2,4] x) => (float[2,4] y) { y = RandomUniformLike<dtype=1>(x) }",
            "float16",
            17,
            "",
        ),
        (
            "(float[2,4] x) => (uint8[2,4] y) { y = QuantizeLinear(x, s, z) }",
            "float16",
            19,
            "QuantizeLinear goes between floats and something else",
        ),
    ],
)
def test_what_stays_has_its_reason(text: str, kind: str, opset: int, reason: str) -> None:
    constants = {"s": np.array(0.1, np.float32), "z": np.array(3, np.uint8)}
    nodes = found(text, opset, kind, **constants)
    assert types(nodes) == []
    assert list(reasons(nodes).values()) == ([reason] if reason else [])


def test_layers_beside_codes_stay() -> None:
    nodes = found(
        "(uint8[2,4] x) => (float[2,4] y)"
        "{ f = DequantizeLinear(x, s, z)  h = MatMul(f, w)  y = Relu(h) }",
        s=np.array(0.1, np.float32),
        z=np.array(3, np.uint8),
    )
    assert reasons(nodes)["MatMul"] == "it stands beside codes"
    assert types(nodes) == ["Relu"]
    assert types(nodes.beside_layers()) == []


def test_positions_and_masks_are_no_data() -> None:
    nodes = found(
        """(float[n,4] x) => (float[n,4] y) {
            s = Shape(x)  n0 = Gather(s, zero)  r = Range(zero, n0, one)  f = Cast<to=1>(r)
            angle = Mul(f, tiny)  wave = Sin(angle)  column = Reshape(wave, rows)
            h = MatMul(x, w)  y = Add(h, column)
        }""",
        zero=np.array(0, np.int64),
        one=np.array(1, np.int64),
        tiny=np.array(0.01, np.float32),
        rows=np.array([-1, 1]),
    )
    assert types(nodes) == ["Shape", "MatMul", "Add"]  # Shape takes any type


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("e = Gather(w, x)  t = Transpose(w)  y = MatMul(e, t)", ["Gather", "Transpose", "MatMul"]),
        ("e = Gather(w, x)  c = Reshape(w, two)  t = Transpose(c)  y = MatMul(e, t)", None),
        ("e = Gather(w, x)  t = Transpose(w)  s = Sin(t)  y = MatMul(e, s)", ["Gather", "MatMul"]),
        (
            "e = Gather(w, x)  t = Transpose(w)  s = Sin(t)  a = MatMul(e, t)  y = MatMul(a, s)",
            ["Gather", "MatMul", "MatMul"],
        ),
    ],
)
def test_what_moves_a_constant_goes_with_its_readers(body: str, expected: list[str] | None) -> None:
    nodes = found(f"(int64[n] x) => (float[n,4] y) {{ {body} }}", two=np.array([4, 4]))
    assert types(nodes) == (expected or ["Gather", "Reshape", "Transpose", "MatMul"])


def test_what_hangs_together_with_no_layer_is_left() -> None:
    nodes = found(
        "(float[2,4] x) => (float[2,4] y, float[2,4] z)"
        "{ h = MatMul(x, w)  y = Relu(h)  a = Sin(x)  z = Neg(a) }"
    )
    assert types(nodes) == ["MatMul", "Relu", "Sin", "Neg"]
    kept = nodes.beside_layers()  # the input that both read joins nothing
    assert types(kept) == ["MatMul", "Relu"]
    assert reasons(kept)["Sin"] == "no layer hangs together with it"


def test_a_tensor_of_unknown_type_keeps_its_readers() -> None:
    graph = Graph(MODELS["function"]())
    nodes = half_nodes(graph, infer(graph), "float16")
    assert any("none of ONNX's own" in reason for _, reason in nodes.kept)
