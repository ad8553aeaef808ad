"""Calls of local functions unfolded: the answers stay, names are unique, obstacles are told."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import pytest
from onnx import ModelProto, NodeProto
from onnx.helper import make_function, make_graph, make_node, make_opsetid

from graphopt.facts import cost
from graphopt.facts.macs import MacCount
from graphopt.facts.sized import single, sized
from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.graph.unfold import Unfolder, drop_uncalled, inlined
from graphopt.testing import MODELS, model_from_text, run_model

HEAD = '<ir_version: 10, opset_import: ["" : 17, "loc" : 1]>'
OWN = '<domain: "loc", opset_import: ["" : 17, "loc" : 1]>'


def unfolded(text: str, functions: str, **weights: tuple[int, ...]) -> tuple[ModelProto, Graph]:
    model = model_from_text(f"{HEAD} {text} {functions}", weights)
    return model, inlined(Graph(model))


TRICKY = {
    "attribute given, by default, and left out": (
        "g (float[2,3] x) => (float y, float z) { y = loc.f <a = 1> (x)  z = loc.f (x) }",
        f"{OWN} f <a, b: float = 0.5> (p) => (q) "
        "{ s = Softmax <axis = @a> (p)  q = LeakyRelu <alpha = @b> (s) }",
    ),
    "an input left out": (
        "g (float[2,3] x) => (float y) { y = loc.f (x) }",
        f"{OWN} f (p, low, high) => (q) {{ q = Clip (p, low, high) }}",
    ),
    "an output left out": (
        "g (float[2,3] x) => (float y) { y = loc.f (x) }",
        f"{OWN} f (p) => (q, r) {{ q = Abs (p)  r = Exp (q) }}",
    ),
    "functions in functions, called twice": (
        "g (float[2,3] x) => (float y) { t = loc.f (x)  y = loc.f (t) }",
        f"{OWN} f (p) => (q) {{ t = loc.h (p)  y = loc.h (t)  q = Add (t, y) }}"
        f"{OWN} h (p) => (q) {{ x = Abs (p)  y = Sqrt (x)  q = Mul (x, y) }}",
    ),
    "a body in a function that reads what is around it": (
        "g (float[2,3] x) => (float y) { t = loc.f (x)  y = loc.f (t) }",
        f"""{OWN} f (p) => (q) {{
          s = ReduceSum <keepdims = 0> (p)  o = Constant <value = float {{0.0}}> ()
          c = Greater (s, o)
          q = If (c) <then_branch = yes () => (float[2,3] v) {{ u = Abs (p)  v = Mul (u, s) }},
                      else_branch = no () => (float[2,3] v) {{ u = Neg (p)  v = loc.h (u) }}>
        }}
        {OWN} h (p) => (q) {{ y = Exp (p)  q = Sub (y, p) }}""",
    ),
    "a call in a body of the model": (
        """g (float[2,3] x) => (float[2,3] y) {
          n = Constant <value = int64 {2}> ()  k = Constant <value = bool {1}> ()
          y = Loop (n, k, x) <body = b (int64 i, bool go, float[2,3] s) => (bool on, float[2,3] t)
            { on = Identity (go)  u = loc.f (s)  t = loc.f (u) }>
        }""",
        f"{OWN} f (p) => (q) {{ u = Sin (p)  q = Cos (u) }}",
    ),
    "names that the model has too": (
        "g (float[2,3] x) => (float q) { u = Abs (x)  p = loc.f (u)  q = Add (u, p) }",
        f"{OWN} f (p) => (q) {{ u = Sin (p)  x = Cos (u)  q = Add (u, x) }}",
    ),
}


@pytest.mark.parametrize("case", TRICKY)
def test_the_answers_are_those_of_the_calls(case: str) -> None:
    model, graph = unfolded(*TRICKY[case])
    made = graph.to_model()
    assert check.problems(graph) == []
    assert not made.functions
    assert [item.domain for item in made.opset_import] == [""]
    assert all(node.domain == "" for scope in graph.scopes() for node in scope.nodes)
    theirs = onnx.inliner.inline_local_functions(model)  # onnxruntime does not take all of them
    expected, answers = run_model(theirs), run_model(made)
    assert expected.keys() == answers.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(answers[name], value)
    ours = sorted(node.op_type for node in made.graph.node if node.op_type != "Identity")
    assert ours == sorted(n.op_type for n in theirs.graph.node if n.op_type != "Identity")


def test_an_input_handed_back_and_an_output_given_twice() -> None:
    _, graph = unfolded(  # neither onnxruntime nor onnx's inliner takes this
        "g (float[2,3] x) => (float y, float z, float t) { y, z, t = loc.f (x) }",
        f"{OWN} f (p) => (p, r, r) {{ r = Abs (p) }}",
    )
    made = [(node.op_type, list(node.input), list(node.output)) for node in graph.main.nodes]
    assert made == [
        ("Abs", ["x"], ["z"]),
        ("Identity", ["x"], ["y"]),
        ("Identity", ["z"], ["t"]),
    ]


def test_large_constants_are_stored_once_and_small_ones_stay_nodes() -> None:
    graph = inlined(Graph(MODELS["functions"]()))
    assert sorted(graph.main.initializers) == ["B1", "W1", "block/w"]
    constants = [node for node in graph.main.nodes if node.op_type == "Constant"]
    assert len(constants) == 5  # three scales, the bias of two blocks
    names = [node.name for node in graph.main.nodes]
    assert len(set(names)) == len(names)


def test_what_is_in_functions_is_counted() -> None:
    graph = Graph(MODELS["functions"]())
    sizes = 2 * 32 * 32 + 32 + 1 + 3  # weights, biases, scales
    assert cost.params(graph) == sizes + 1  # the bias of one value is a node of either call
    assert sized(graph, single(graph)).macs == MacCount(3 * 32 * 32)
    assert graph.weight_bytes >= 2 * 32 * 32 * 4


def test_a_graph_without_calls_is_not_copied() -> None:
    graph = Graph(MODELS["mlp"]())
    assert inlined(graph) is graph


def called(function: onnx.FunctionProto, *call: NodeProto, version: int = 17) -> Graph:
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [2, 3]) for name in "xy")
    imports = [make_opsetid("", version), make_opsetid("loc", 1), make_opsetid("com.own", 2)]
    graph = make_graph([*call] or [make_node("f", ["x"], ["y"], domain="loc")], "g", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=imports, functions=[function])
    return Graph(model)


def one(node: NodeProto, *imports: tuple[str, int]) -> onnx.FunctionProto:
    return make_function("loc", "f", ["a"], ["b"], [node], [make_opsetid(*one) for one in imports])


@pytest.mark.parametrize(
    ("node", "imports", "words"),
    [
        (make_node("Relu", ["a"], ["b"]), ("", 14), ""),
        (make_node("Reshape", ["a", "a"], ["b"]), ("", 13), ""),
        (make_node("Unknown", ["a"], ["b"]), ("", 13), ""),
        (
            make_node("Softmax", ["a"], ["b"], axis=1),
            ("", 12),
            "it is written for opset 12, the model for 17, in which Softmax is another",
        ),
        (
            make_node("ReduceSum", ["a"], ["b"], axes=[0]),
            ("", 12),
            "it is written for opset 12, the model for 17, in which ReduceSum is another",
        ),
        (make_node("Own", ["a"], ["b"], domain="com.own"), ("com.own", 2), ""),
        (
            make_node("Own", ["a"], ["b"], domain="com.own"),
            ("com.own", 1),
            "it is written for version 1 of com.own, the model for 2",
        ),
    ],
)
def test_other_versions_are_an_obstacle(
    node: NodeProto, imports: tuple[str, int], words: str
) -> None:
    graph = called(one(node, imports))
    call = graph.main.nodes[0]
    assert Unfolder(graph).obstacle(graph.main, call) == words
    left = inlined(graph)
    assert [n.op_type for n in left.main.nodes] == ([node.op_type] if not words else ["f"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (make_node("f", ["x", "x"], ["y"], domain="loc"), "it does not fit its function f"),
        (
            make_node("f", ["x"], ["y"], domain="loc", body=make_graph([], "b", [], [])),
            "it is handed a graph as an attribute",
        ),
    ],
)
def test_calls_that_do_not_fit_are_an_obstacle(call: NodeProto, words: str) -> None:
    graph = called(one(make_node("Relu", ["a"], ["b"]), ("", 17)), call)
    assert Unfolder(graph).obstacle(graph.main, graph.main.nodes[0]) == words


def test_operator_sets_that_only_a_function_knew_are_taken_over() -> None:
    graph = called(one(make_node("Other", ["a"], ["b"], domain="com.new"), ("com.new", 3)))
    assert {item.domain: item.version for item in inlined(graph).header.opset_import} == {
        "": 17,
        "com.own": 2,
        "com.new": 3,
    }


def test_functions_that_others_call_stay() -> None:
    model, _ = unfolded(*TRICKY["functions in functions, called twice"])
    graph = Graph(model)
    assert drop_uncalled(graph) == []
    graph.main.nodes[0].op_type = graph.main.nodes[1].op_type = "h"
    graph.main.touch()
    assert drop_uncalled(graph) == ["f"]
    assert [function.name for function in graph.header.functions] == ["h"]


def test_far_too_many_nodes_are_left_folded() -> None:
    levels = "".join(
        f"{OWN} f{n} (p) => (q) {{ t = loc.f{n - 1} (p)  q = loc.f{n - 1} (t) }}"
        for n in range(1, 17)
    )
    text = "g (float[2,3] x) => (float y) { y = loc.f16 (x) }"
    model, graph = unfolded(text, f"{OWN} f0 (p) => (q) {{ q = Abs (p) }} {levels}")
    assert [node.op_type for node in graph.main.nodes] == ["f16"]
    assert len(model.functions) == 17
