"""Names that are made twice or by nothing, and cycles: what onnxruntime loads passes."""

import onnx
import pytest

from graphopt.errors import ModelError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.wiring import miswired

HEAD = '<ir_version: 8, opset_import: ["": 17]> g (float[N] x, bool c) => (float[N] y) '
TWICE = "defines {} a second time"


def parsed(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD + body)


def branch(nodes: str) -> str:
    return (
        "{ h = Relu(x) [if] y = If (c) <then_branch = t () => (float[N] a) { "
        + nodes
        + " }, else_branch = e () => (float[N] b) { b = Neg(x) }> }"
    )


FAULTS = [
    ("{ a = Add(x, b) b = Relu(a) y = Relu(b) }", "nodes read their own outputs (a cycle)"),
    ("{ y = Relu(x) a = Add(x, b) b = Relu(a) }", "nodes read their own outputs (a cycle)"),
    ("{ [n] y = Add(x, nowhere) }", "node 'n' reads 'nowhere', which nothing computes"),
    ("{ y = Relu(x) [n] z = Add(x, nowhere) }", "node 'n' reads 'nowhere', which nothing"),
    ("{ h = Relu(x) }", "output 'y' is computed by nothing"),
    ("{ h = Relu(x) [n] h = Neg(x) y = Relu(h) }", "node 'n' defines 'h' a second time"),
    ("{ [n] x = Relu(x) y = Relu(x) }", "node 'n' defines 'x' a second time"),
    ("<float[1] w = {1}> { [n] w = Relu(x) y = Add(x, w) }", "node 'n' defines 'w' a second"),
    (branch("[n] a = Add(x, nowhere)"), "node 'n' reads 'nowhere', which nothing computes in if/"),
    (branch("z = Relu(x)"), "output 'a' is computed by nothing in if/"),
    (branch("a = Relu(y)"), "nodes read their own outputs (a cycle)"),
    (branch("a = Add(x, z) z = Relu(a)"), "nodes read their own outputs (a cycle) in if/"),
    (branch("z = Relu(x) [n] z = Neg(x) a = Relu(z)"), "node 'n' defines 'z' a second time in if/"),
]


@pytest.mark.parametrize(("body", "words"), FAULTS)
def test_faults(body: str, words: str) -> None:
    model = parsed(body)
    assert words in next(miswired(Graph(model)))
    with pytest.raises(ModelError) as caught:
        io.load(model)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        "{ y = Relu(h) h = Neg(x) }",  # not in order
        "{ y = Clip(x, ) }",
        "<float[1] w = {1}> { y = Add(x, w) }",
        branch("a = Relu(h)"),
        branch("k = Relu(h) a = Neg(k)"),
    ],
)
def test_what_onnxruntime_loads_passes(body: str) -> None:
    assert list(miswired(io.load(parsed(body)))) == []


def test_a_name_with_a_line_break_does_not_break_the_line() -> None:
    model = parsed(branch("a = Add(x, nowhere)"))
    model.graph.node[1].name = "two\nlines"
    (fault,) = miswired(Graph(model))
    assert fault.endswith("reads 'nowhere', which nothing computes in two\\nlines/")


def test_an_input_that_is_listed_twice() -> None:
    model = parsed("{ y = Relu(x) }")
    model.graph.input.append(model.graph.input[0])
    assert list(miswired(Graph(model))) == ["input 'x' is listed twice"]


def test_an_initializer_that_comes_twice_is_the_last_one() -> None:
    model = parsed("<float[1] w = {1}> { y = Add(x, w) }")
    model.graph.initializer.append(onnx.helper.make_tensor("w", 1, [1], [2.0]))
    constant = io.load(model).main.constant("w")
    assert constant is not None and constant.values.tolist() == [2.0]
