"""Surgery: bypass, redirect, rename, dead nodes."""

import onnx
import pytest

from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.rewrite import edit


def parse(body: str, head: str = "g (float[4] x) => (float[4] y)") -> Graph:
    return Graph(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {head} {body}'))


def nodes(graph: Graph) -> list[str]:
    return [f"{','.join(n.output)}={n.op_type}({','.join(n.input)})" for n in graph.main.nodes]


def test_bypass_in_the_middle() -> None:
    graph = parse("<float[4] h> { a = Relu(x) h = Identity(a) b = Neg(h) y = Add(b, h) }")
    assert edit.bypass(graph.main, graph.main.nodes[1], "a", "h")
    assert nodes(graph) == ["a=Relu(x)", "b=Neg(a)", "y=Add(b,a)"]
    assert list(graph.main.value_infos) == []
    assert check.problems(graph) == []


def test_bypass_before_an_output_renames_the_producer() -> None:
    graph = parse("<float[4] a> { a = Relu(x) y = Identity(a) z = Neg(a) w = Neg(y) }")
    assert edit.bypass(graph.main, graph.main.nodes[1], "a", "y")
    assert nodes(graph) == ["y=Relu(x)", "z=Neg(y)", "w=Neg(y)"]
    assert check.problems(graph) == []
    assert {value.name for value in graph.main.value_infos} <= {"z", "w"}


@pytest.mark.parametrize(
    ("body", "head"),
    [
        ("{ y = Identity(x) }", "g (float[4] x) => (float[4] y)"),
        ("<float[4] a = {1,2,3,4}> { y = Identity(a) }", "g (float[4] x) => (float[4] y)"),
        ("{ a = Relu(x) y = Identity(a) }", "g (float[4] x) => (float[4] y, float[4] a)"),
    ],
)
def test_bypass_that_cannot_be(body: str, head: str) -> None:
    graph = parse(body, head)
    before = nodes(graph)
    node = graph.main.producer("y")
    assert node is not None
    assert not edit.bypass(graph.main, node, node.input[0], "y")
    assert nodes(graph) == before


def test_bypass_reaches_bodies() -> None:
    graph = parse(
        """{
          a = Relu(x)
          h = Identity(a)
          y = If (c) <
            then_branch = t () => (float[4] o) { o = Neg(h) },
            else_branch = e () => (float[4] p) { p = Abs(h) }
          >
        }""",
        "g (float[4] x, bool c) => (float[4] y)",
    )
    assert edit.bypass(graph.main, graph.main.nodes[1], "a", "h")
    assert [label(use.node) for use in graph.main.uses("a")] == ["Neg(o)", "Abs(p)"]
    assert check.problems(graph) == []


def test_bypass_of_what_a_body_hands_out() -> None:
    graph = parse(
        """{
          a = Relu(x)
          h = Identity(a)
          y = If (c) <
            then_branch = t () => (float[4] h) {},
            else_branch = e () => (float[4] p) { p = Abs(h) }
          >
        }""",
        "g (float[4] x, bool c) => (float[4] y)",
    )
    assert not edit.bypass(graph.main, graph.main.nodes[1], "a", "h")


def test_only_reader() -> None:
    graph = parse("{ a = Relu(x) b = Neg(a) y = Add(b, b) }")
    use = edit.only_reader(graph.main, "a")
    assert use is not None
    assert (label(use.node), use.index) == ("Neg(b)", 0)
    for name in ("b", "y", "none"):
        assert edit.only_reader(graph.main, name) is None


def test_redirect_some_readers() -> None:
    graph = parse("{ a = Relu(x) b = Neg(a) y = Add(a, b) }")
    uses = [use for use in graph.main.uses("a") if use.node.op_type == "Add"]
    edit.redirect(uses, "x")
    assert nodes(graph) == ["a=Relu(x)", "b=Neg(a)", "y=Add(x,b)"]


def test_remove_dead_goes_through_bodies() -> None:
    graph = parse(
        """<float[4] w = {1,2,3,4}, float[4] v = {1,2,3,4}, float[4] d> {
          d = Add(x, w)
          e1 = Neg(d)
          k = Constant <value_float = 1.0> ()
          q, r = Split <axis = 0, num_outputs = 2> (x)
          y = If (c) <
            then_branch = t () => (float[4] o) <float[4] u = {1,2,3,4}> {
              dead = Neg(v)
              o = Concat <axis = 0> (q, q)
            },
            else_branch = e () => (float[4] p) { p = Identity(x) }
          >
        }""",
        "g (float[4] x, bool c) => (float[4] y)",
    )
    removed = edit.remove_dead(graph)
    assert sorted(removed) == sorted(
        ["Constant(k)", "Neg(e1)", "Add(d)", "w", "v", "u", "Neg(dead)"]
    )
    assert [node.op_type for node in graph.main.nodes] == ["Split", "If"]
    assert graph.main.initializers == {}
    assert "d" not in [value.name for value in graph.main.value_infos]
    assert edit.remove_dead(graph) == []
    assert check.problems(graph) == []


def test_dead_initializer_listed_as_input_goes_from_both() -> None:
    graph = parse(
        "<float[4] w = {1,2,3,4}> { y = Relu(x) }",
        "g (float[4] x, float[4] w, float[4] unread) => (float[4] y)",
    )
    assert edit.remove_dead(graph) == ["w"]
    assert graph.main.inputs == ["x", "unread"]


def test_long_dead_chain_goes_in_one_sweep() -> None:
    chain = " ".join(f"a{i + 1} = Neg(a{i})" for i in range(3000))
    graph = parse(f"{{ y = Relu(x) a0 = Abs(x) {chain} }}")
    assert len(edit.remove_dead(graph)) == 3001
    assert nodes(graph) == ["y=Relu(x)"]
