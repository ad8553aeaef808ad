from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from graphopt.facts.half_nodes import half_nodes
from graphopt.facts.shapes import infer
from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.numerics.halves import HALF_FORMATS, fits
from graphopt.rewrite.to_half import compute_in_half, store_in_half
from graphopt.testing import model_from_text, run_model

FORM = HALF_FORMATS["float16"]
HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def graph_of(text: str, **weights: Any) -> Graph:
    parts = {"w": (8, 8), **weights}
    read = {name: value for name, value in parts.items() if name in text}
    return Graph(model_from_text(f'<ir_version: 8, opset_import: ["" : 17]> g {text}', read))


def converted(graph: Graph, *left: str, ports: bool = False) -> list[tuple[str, str]]:
    """Convert all nodes that can be but those of these types."""
    shapes = infer(graph)
    nodes = [n for n in half_nodes(graph, shapes, "float16").nodes if n.node.op_type not in left]
    told = compute_in_half(graph, nodes, FORM, shapes, ports=ports)
    assert check.problems(graph) == []
    return told


def nodes_of(graph: Graph) -> list[str]:
    return [f"{n.op_type} {','.join(n.input)} -> {','.join(n.output)}" for n in graph.main.nodes]


def test_a_tensor_is_cast_once_for_all_its_readers() -> None:
    graph = graph_of(
        "(float[2,8] x) => (float[2,8] y)"
        "{ h = MatMul(x, w)  a = Sin(h)  b = Cos(h)  c = Add(a, b)  y = MatMul(c, w) }"
    )
    before = run_model(graph)["y"]
    converted(graph, "Sin", "Cos")
    casts = [each for each in nodes_of(graph) if each.startswith("Cast")]
    assert len(casts) == 5  # in, out, h once for both readers, and what Add reads of each
    np.testing.assert_allclose(run_model(graph)["y"], before, atol=2e-2)


def test_an_output_that_is_read_as_well_keeps_its_name() -> None:
    graph = graph_of(
        "(float[2,8] x) => (float[2,8] h, float[2,8] y) { h = MatMul(x, w)  y = Relu(h) }"
    )
    converted(graph)
    assert nodes_of(graph) == [
        "Cast x -> x_float16",
        "MatMul x_float16,w -> h_float16",
        "Cast h_float16 -> h",
        "Relu h_float16 -> y_float16",
        "Cast y_float16 -> y",
    ]


def test_declared_types_follow() -> None:
    graph = graph_of("(float[2,8] x) => (float[2,8] y) { h = MatMul(x, w)  y = Relu(h) }")
    declared = onnx.helper.make_tensor_value_info("h", FLOAT, [2, 8])
    graph.main.value_infos.extend([declared])
    converted(graph)
    (value,) = graph.main.value_infos
    assert value.type.tensor_type.elem_type == HALF
    assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [2, 8]


def test_what_a_cast_makes_is_made_in_halves() -> None:
    graph = graph_of(
        "(int32[2,8] i) => (float[2,8] y){ f = Cast<to=1>(i)  h = MatMul(f, w)  y = Add(h, f) }"
    )
    converted(graph)
    assert nodes_of(graph)[0] == "Cast i -> f_float16"
    assert len(graph.main.nodes) == 4


def test_a_cast_to_halves_that_the_model_has_goes() -> None:
    graph = graph_of(
        "(float[2,8] x) => (float16[2,8] y) { h = MatMul(x, w)  c = Cast<to=10>(h)  y = Relu(c) }"
    )
    converted(graph)
    assert nodes_of(graph) == ["Cast x -> x_float16", "MatMul x_float16,w -> h", "Relu h -> y"]


def test_a_constant_for_both_is_stored_twice_or_cast() -> None:
    text = """(float[2,8] x) => (float[2,8] y)
        { h = MatMul(x, w)  a = Add(h, c)  s = Sin(c)  y = Add(a, s) }"""
    small = graph_of(text, c=np.ones(8, np.float32))
    converted(small, "Sin")
    assert {n: int(t.data_type) for n, t in small.main.initializers.items()} == {
        "w": HALF, "c": FLOAT, "c_float16": HALF,
    }  # fmt: skip
    large = graph_of(text.replace("[2,8]", "[64,8]"), c=np.ones((64, 8), np.float32))
    converted(large, "Sin")
    assert {int(t.data_type) for t in large.main.initializers.values()} == {HALF}
    assert "Cast c_float16 -> c_float32" in nodes_of(large)


def test_ports_change_only_with_what_reads_and_makes_them() -> None:
    graph = graph_of(
        "(float[2,8] x, float[2,8] z) => (float[2,8] y, float[2,8] s)"
        "{ h = MatMul(x, w)  y = Relu(h)  s = Sin(z) }"
    )
    converted(graph, "Sin", ports=True)
    kinds = [
        v.type.tensor_type.elem_type for v in (*graph.main.proto.input, *graph.main.proto.output)
    ]
    assert kinds == [HALF, FLOAT, HALF, FLOAT]
    assert nodes_of(graph) == ["MatMul x,w -> h", "Relu h -> y", "Sin z -> s"]


@pytest.mark.parametrize("both", [False, True])
def test_bodies_read_what_they_capture(both: bool) -> None:
    graph = graph_of(
        """(float[2,8] x, bool c) => (float[2,8] y) {
            h = MatMul(x, w)
            y = If(c) <
                then_branch = a () => (float[2,8] p) { p = Relu(h) },
                else_branch = b () => (float[2,8] q) { q = Sin(h) }
            >
        }"""
    )
    before = run_model(graph)["y"]
    converted(graph, *([] if both else ["Relu", "Sin"]))
    np.testing.assert_allclose(run_model(graph)["y"], before, atol=2e-2)
    inner = [node.op_type for scope in graph.scopes() if scope.parent for node in scope.nodes]
    assert inner == (["Relu", "Cast", "Sin", "Cast"] if both else ["Relu", "Sin"])


def test_weights_alone_are_stored_behind_casts() -> None:
    graph = graph_of(
        "(float[2,8] x) => (float[2,8] y) { h = MatMul(x, w)  a = Add(h, c)  y = Mul(a, tiny) }",
        c=np.ones(8, np.float32),
        tiny=np.full((2, 8), 1e-9, np.float32),
    )
    stored, kept = store_in_half(graph, FORM, lambda constant: fits(constant.values, FORM))
    assert stored == ["w"]  # of eight numbers a Cast takes more
    assert kept == []
    assert nodes_of(graph)[0] == "Cast w -> w_float32"
