"""Shapes: inferred, declared and observed, tensor by tensor, whatever happens."""

import numpy as np
import onnx
import pytest

from graphopt.facts.shapes import TensorInfo, infer
from graphopt.graph.graph import Graph

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def parse(text: str, opsets: str = '"" : 18') -> Graph:
    return Graph(onnx.parser.parse_model(f"<ir_version: 8, opset_import: [{opsets}]> {text}"))


def test_inference_and_symbols() -> None:
    graph = parse(
        "g (float[N, 4] x) => (float[N, M] y) <float[4, 8] w> { h = MatMul(x, w) y = Relu(h) }"
    )
    graph.main.initializers["w"] = graph.store("w", np.zeros((4, 8), np.float32))
    found = infer(graph)
    assert found.get("h") == TensorInfo(FLOAT, ("N", 8))
    assert found.get("w") == TensorInfo(FLOAT, (4, 8))
    assert found.get("y") == TensorInfo(FLOAT, ("N", 8))
    assert found.static_shape("w") == (4, 8)
    assert found.static_shape("h") is None
    assert "h" in found
    assert found.get("none") is None
    assert "none" not in found
    assert set(found) == {"x", "w", "h", "y"}


def test_shapes_computed_by_the_graph() -> None:
    graph = parse(
        """g (float[2, 3, 4] x) => (float[A, B] y) <int64[1] at = {0}, int64[1] rest = {-1}> {
          s = Shape(x)
          n = Gather(s, at)
          t = Concat <axis = 0> (n, rest)
          y = Reshape(x, t)
        }"""
    )
    assert infer(graph).static_shape("y") == (2, 12)


def test_large_values_are_not_needed() -> None:
    graph = parse(
        "g (float[N, 512] x) => (float[N, 512] y) <float[512, 512] w> { y = MatMul(x, w) }"
    )
    weight = onnx.TensorProto(name="w", data_type=FLOAT, dims=[512, 512])
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="not-there.bin")
    graph.main.initializers["w"] = weight
    assert infer(graph).get("y") == TensorInfo(FLOAT, ("N", 512))


def test_unknown_operator_costs_its_own_outputs_only() -> None:
    graph = parse(
        """g (float[2, 4] x) => (float[2, 4] y) {
          a = Relu(x)
          b = odd.Mystery(a)
          c = Neg(b)
          y = Neg(a)
        }""",
        '"" : 18, "odd" : 1',
    )
    found = infer(graph)
    assert found.static_shape("a") == (2, 4)
    assert "b" not in found
    seen = {"b": TensorInfo(FLOAT, (2, 9)), "c": TensorInfo(FLOAT, (2, 9))}
    assert infer(graph, seen).static_shape("c") == (2, 9)


def test_observed_fills_corrects_and_keeps_symbols() -> None:
    graph = parse(
        "g (float[N, 4] x, float p) => (float y) <float[7, ?] h, int64[3] k> "
        "{ h = odd.A(x) k = odd.B(x) y = Identity(p) }",
        '"" : 18, "odd" : 1',
    )
    seen = {
        "x": TensorInfo(FLOAT, (1, 4)),
        "h": TensorInfo(FLOAT, (8, 5)),
        "k": TensorInfo(INT64, (3, 1)),
        "new": TensorInfo(FLOAT, None),
    }
    found = infer(graph, seen)
    assert found.get("x") == TensorInfo(FLOAT, ("N", 4))
    assert found.get("h") == TensorInfo(FLOAT, (8, 5))
    assert found.get("k") == TensorInfo(INT64, (3, 1))
    assert found.get("new") == TensorInfo(FLOAT, None)


def test_names_inside_bodies() -> None:
    graph = parse(
        """g (float[2, 4] x, bool c) => (float[2, ?] y) {
          y = If (c) <
            then_branch = t () => (float[2, ?] o) {
              same = Concat <axis = 1> (x, x)
              one = Neg(same)
              o = Identity(one)
            },
            else_branch = e () => (float[2, ?] p) {
              same = Concat <axis = 1> (x, x, x)
              p = Identity(same)
            }
          >
        }"""
    )
    found = infer(graph)
    assert found.static_shape("one") == (2, 8)
    assert found.get("same") == TensorInfo(FLOAT, (2, None))  # 8 in one branch, 12 in the other


def test_sequences_are_not_tensors() -> None:
    graph = parse("g (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct(x) }")
    assert "y" not in infer(graph)


def test_graphs_of_ml_operators_alone() -> None:
    graph = parse(
        "g (float[N, 3] x) => (float[N, 3] y) "
        "{ y = ai.onnx.ml.Scaler <offset = [0.0], scale = [2.0]> (x) }",
        '"ai.onnx.ml" : 3',
    )
    assert infer(graph).get("y") == TensorInfo(FLOAT, ("N", 3))


def test_failing_inference_falls_back_to_single_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise onnx.shape_inference.InferenceError("no")

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", fail)
    graph = parse(
        """g (float[N, 4] x) => (float[N, 12] y) <int64[2] t = {0, 4}> {
          a = Relu(x)
          m = odd.Mystery(a)
          w = Wrong(a)
          b = Reshape(a, t)
          y = Concat <axis = 1> (a, b, b)
        }""",
        '"" : 18, "odd" : 1',
    )
    found = infer(graph)
    assert found.get("a") == TensorInfo(FLOAT, ("N", 4))
    assert found.get("b") == TensorInfo(FLOAT, ("N", 4))
    assert "m" not in found
    assert "w" not in found


@pytest.mark.parametrize(
    "body",
    [
        "{ y = Conv(x) }",
        "{ y = Reshape(x, gone) }",
        "{ y = MatMul(x, x) }",
        "{ y = NoSuchOperator(x) }",
        "{ y = unimported.Operator(x) }",
        "{ h = unimported.Operator(x) y = Relu(h) }",
        "{ h = Relu(y) y = Relu(h) }",
        "{ y = Cast <to = 99> (x) }",
        "{ y = Concat <axis = 9> (x, x) }",
    ],
)
def test_invalid_graphs_never_raise(body: str) -> None:
    found = infer(parse(f"g (float[2, 3] x) => (float[K] y) {body}"))
    assert found.static_shape("x") == (2, 3)


def test_static_where_declared_is_vague() -> None:
    graph = parse("g (float[2, 3] x) => (float[A, ?] y) { y = Neg(x) }")
    assert infer(graph).static_shape("y") == (2, 3)


def test_calls_that_stand_for_very_many_nodes_are_not_unfolded() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "loc" : 1]>
        g (float[4] x) => (float[4] y) { h = loc.f16(x) y = Relu(x) }
        <domain: "loc", opset_import: ["" : 18, "loc" : 1]> f0 (a) => (b) { b = Relu(a) }"""
    for level in range(1, 17):
        calls = f"c = loc.f{level - 1}(a) b = loc.f{level - 1}(c)"
        text += f"""
        <domain: "loc", opset_import: ["" : 18, "loc" : 1]> f{level} (a) => (b) {{ {calls} }}"""
    found = infer(Graph(onnx.parser.parse_model(text)))
    assert found.get("h") is None
    assert found.get("y") == TensorInfo(FLOAT, (4,))
    few = infer(Graph(onnx.parser.parse_model(text.replace("loc.f16(x)", "loc.f3(x)"))))
    assert few.get("h") == TensorInfo(FLOAT, (4,))


def test_a_declared_type_that_onnx_does_not_have_is_unknown() -> None:
    graph = parse("g (float[4] x) => (float[4] y) { h = own.F(x) y = Relu(x) }", '"": 18, "own": 1')
    graph.main.value_infos.extend([onnx.helper.make_tensor_value_info("h", FLOAT, [7])])
    (declared,) = graph.main.value_infos
    declared.type.tensor_type.elem_type = 99
    assert infer(graph).get("h") == TensorInfo(0, (7,))
