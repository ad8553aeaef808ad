"""The check: valid models pass whatever their domains, faults are named one by one."""

import re
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from graphopt.errors import ModelError
from graphopt.graph import check, io
from graphopt.graph.check import malformed_nodes
from graphopt.graph.graph import Graph
from graphopt.testing import MODELS


def parse(body: str, opsets: str = '"" : 18') -> Graph:
    return Graph(
        onnx.parser.parse_model(
            f"<ir_version: 8, opset_import: [{opsets}]> g (float[N, 4] x) => (float[N, 4] y) {body}"
        )
    )


def test_valid() -> None:
    assert check.problems(parse("{ y = Relu(x) }")) == []


def test_contrib_operators_are_no_fault() -> None:
    graph = parse("{ h = com.microsoft.Gelu(x) y = Relu(h) }", '"" : 18, "com.microsoft" : 1')
    assert check.problems(graph) == []


def test_declared_but_unused_domains() -> None:
    assert check.problems(parse("{ y = Relu(x) }", '"" : 18, "nobody.knows" : 7')) == []


def test_ml_operators_alone() -> None:
    scaler = "{ y = ai.onnx.ml.Scaler <offset = [0.0], scale = [2.0]> (x) }"
    assert check.problems(parse(scaler, '"ai.onnx.ml" : 3')) == []


def test_local_functions() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "local" : 1]>
        g (float[N, 4] x) => (float[N, 4] y) { h = local.twice(x) y = Relu(h) }
        <domain: "local", opset_import: ["" : 18]> twice (i) => (o) { o = Add(i, i) }"""
    assert check.problems(Graph(onnx.parser.parse_model(text))) == []


def test_large_weights_are_not_copied_for_the_checker() -> None:
    graph = parse("<float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> { y = MatMul(x, w) }")
    graph.main.initializers["w"] = graph.store("w", np.zeros((4, 4000), np.float32))
    assert check.problems(graph) == []


def test_external_weights_need_no_file_for_the_checker() -> None:
    graph = parse("<float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> { y = MatMul(x, w) }")
    tensor = graph.main.initializers["w"]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere.bin")
    assert check.problems(graph) == []


def break_input(graph: Graph) -> None:
    graph.main.set_input(graph.main.nodes[1], 0, "gone")


def break_output(graph: Graph) -> None:
    graph.main.proto.output[0].name = "nothing"


def break_order(graph: Graph) -> None:
    graph.main.set_input(graph.main.nodes[0], 0, "y")


def define_twice(graph: Graph) -> None:
    graph.main.add(onnx.helper.make_node("Neg", ["x"], ["h"], name="again"))


def unknown_operator(graph: Graph) -> None:
    graph.main.nodes[0].op_type = "Rellu"


def cut_data(graph: Graph) -> None:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[3], raw_data=bytes(8))
    graph.main.initializers["w"] = tensor


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_input, "node 'second' reads 'gone', which nothing computes"),
        (break_output, "output 'nothing' is computed by nothing"),
        (break_order, "nodes read their own outputs (a cycle)"),
        (define_twice, "node 'again' defines 'h' a second time"),
        (unknown_operator, "No Op registered for Rellu"),
        (cut_data, "tensor 'w' holds 8 bytes where its shape [3] needs 12"),
    ],
)
def test_faults(damage: Callable[[Graph], None], message: str) -> None:
    graph = parse("{ [first] h = Relu(x) [second] y = Neg(h) }")
    damage(graph)
    found = check.problems(graph)
    assert any(message in problem for problem in found), found
    assert check.problems(graph.copy()) == found


def test_each_faulty_node_is_listed() -> None:
    graph = parse("{ [a] h = Relu(x) [b] i = Neg(h) [c] y = Abs(i) }")
    graph.main.nodes[0].op_type = "Rellu"
    before = check.problems(graph)
    graph.main.nodes[1].op_type = "Negg"
    new = [problem for problem in check.problems(graph) if problem not in before]
    assert new == ["node 'b': No Op registered for Negg with domain_version of 18"]


def test_faults_inside_bodies_say_where() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
        g (float[4] x, bool c) => (float[4] y) {
          [branch] y = If (c) <
            then_branch = t () => (float[4] a) { [deep] a = Relu(x) },
            else_branch = e () => (float[4] b) { b = Neg(x) }
          >
        }"""
    graph = io.load(onnx.parser.parse_model(text))
    assert check.problems(graph) == []
    inner = graph.main.children(graph.main.nodes[0])["then_branch"]
    inner.set_input(inner.nodes[0], 0, "gone")
    assert "node 'deep' reads 'gone', which nothing computes in branch/" in check.problems(graph)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda node: node.input.pop(), "has 1 inputs, MatMul of opset 13 needs 2"),
        (lambda node: node.output.pop(), "has 0 outputs, MatMul of opset 13 needs 1"),
        (lambda node: node.input.__setitem__(0, ""), "input 0 of MatMul has no name"),
    ],
)
def test_a_node_without_what_its_operator_needs_is_malformed(
    edit: Callable[[onnx.NodeProto], object], words: str
) -> None:
    graph = io.load(MODELS["bodies"]())
    assert list(malformed_nodes(graph)) == []
    body = next(scope for scope in graph.scopes() if scope.parent is not None)
    edit(body.nodes[0])
    (problem,) = malformed_nodes(graph)
    assert words in problem
    with pytest.raises(ModelError, match=re.escape(words)):
        io.load(graph.to_model())
