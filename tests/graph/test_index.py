"""The index of producers and uses: after any edits it is what one made from nothing would be."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.graph.graph import Graph, Scope
from graphopt.graph.index import Index

NESTED = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[4] x, bool c) => (float[4] y, float[4] h) <float[4] w = {1, 2, 3, 4}> {
  i = Identity(w)
  j = Identity(i)
  h = Add(x, j)
  y = If (c) <
    then_branch = t () => (float[4] a) {
      m = Mul(h, w)
      a = If (c) <
        then_branch = tt () => (float[4] aa) { aa = Add(m, j) },
        else_branch = te () => (float[4] h) {}
      >
    },
    else_branch = e () => (float[4] w) {}
  >
  z = Add(h, h)
}
"""

NAMES = ["x", "w", "i", "j", "h", "y", "z", "m", "a", "aa", "new", ""]
Told = dict[str, list[tuple[str, int, int]]]


def told(scope: Scope, index: Index) -> tuple[dict[str, int], Told, Told, dict[str, int]]:
    """All that an index says of the names above: producers, uses, captures, first readers."""
    producers, uses, firsts = dict[str, int](), Told(), dict[str, int]()
    for name in NAMES:
        producer, first = index.producer(name), index.first_reader(name)
        uses[name] = [(use.scope.path, id(use.node), use.index) for use in index.sorted_uses(name)]
        assert len(list(index.uses(name))) == len(uses[name])
        if producer is not None:
            producers[name] = id(producer)
        if first is not None:
            firsts[name] = id(first)
    captured = {
        name: [(use.scope.path, id(use.node), use.index) for use in listed]
        for name, listed in index.captured().items()
    }
    return producers, uses, captured, firsts


def add(scope: Scope, at: int, to: int, name: str) -> None:
    """A node, sometimes one that defines a name which others have already."""
    node = onnx.helper.make_node("Add", [NAMES[to], name], [name] if at % 2 else ["new"])
    scope.add(node, before=scope.nodes[at % len(scope.nodes)] if scope.nodes else None)


def add_if(scope: Scope, at: int, to: int, name: str) -> None:
    """A node with a body that reads, defines and gives out outer names."""
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", [name], [NAMES[to]])],
        "body",
        [],
        [onnx.ValueInfoProto(name=name), onnx.ValueInfoProto(name=NAMES[to])],
    )
    twin = Graph(
        onnx.helper.make_model(
            onnx.helper.make_graph(
                [onnx.helper.make_node("If", ["c"], ["new"], then_branch=body)], "g", [], []
            )
        )
    )
    node = twin.main.nodes[0]
    bodies = twin.main.children(node)
    for inner in bodies.values():
        inner.parent = scope
    scope.bodies[id(node)] = bodies
    scope.add(node, before=scope.nodes[at % len(scope.nodes)] if scope.nodes else None)


def remove(scope: Scope, at: int, to: int, name: str) -> None:
    scope.remove(scope.nodes[at % len(scope.nodes) : at % len(scope.nodes) + 1 + to % 2])


def set_input(scope: Scope, at: int, to: int, name: str) -> None:
    scope.set_input(scope.nodes[at % len(scope.nodes)], to % 3, name)


def set_output(scope: Scope, at: int, to: int, name: str) -> None:
    scope.set_output(scope.nodes[at % len(scope.nodes)], 0, name)


def replace_uses(scope: Scope, at: int, to: int, name: str) -> None:
    if name and NAMES[to]:
        scope.replace_uses(NAMES[to], name)


def define(scope: Scope, at: int, to: int, name: str) -> None:
    scope.define(name or "new", np.ones(4, np.float32))


def drop(scope: Scope, at: int, to: int, name: str) -> None:
    scope.drop_initializer(name)


def touch(scope: Scope, at: int, to: int, name: str) -> None:
    node = scope.nodes[at % len(scope.nodes)]
    node.input[:] = [name, NAMES[to]]
    node.output[:] = [NAMES[to], name]
    scope.touch(node)


Edit = Callable[[Scope, int, int, str], None]
EDITS: list[Edit] = [
    *(add, add_if, remove, set_input, set_output, replace_uses, define, drop, touch)
]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(EDITS),
            st.integers(0, 7),
            st.integers(0, 9),
            st.integers(0, len(NAMES) - 1),
            st.sampled_from(NAMES),
        ),
        max_size=12,
    )
)
def test_kept_index_equals_a_new_one(
    edits: list[tuple[Edit, int, int, int, str]],
) -> None:
    graph = Graph(onnx.parser.parse_model(NESTED))
    assert graph.main.index.producer("z") is graph.main.nodes[-1]
    for edit, which, at, to, name in edits:
        scopes = [s for s in graph.scopes() if s.nodes or edit in (add, add_if, define, drop)]
        if not scopes:
            continue
        edit(scopes[which % len(scopes)], at, to, name)
        for scope in graph.scopes():
            kept = told(scope, scope.index)
            assert [scope.index.position(node) for node in scope.nodes] == [
                *range(len(scope.nodes))
            ]
            assert kept == told(scope, Index(scope))


def test_uses_come_in_order_of_the_nodes() -> None:
    graph = Graph(onnx.parser.parse_model(NESTED))
    first, last = graph.main.nodes[0], graph.main.nodes[-1]
    graph.main.set_input(last, 1, "w")
    graph.main.set_input(first, 0, "x")
    graph.main.set_input(first, 0, "w")
    seen = [(use.scope.path, use.node.op_type, use.index) for use in graph.main.uses("w")]
    assert seen == [
        ("", "Identity", 0),
        ("If(y)/", "Mul", 1),
        ("", "If", -1),
        ("", "Add", 1),
    ]
    assert list(graph.main.children(graph.main.nodes[3])["then_branch"].captures()) == [
        *("h", "w", "c", "j")
    ]


@pytest.mark.parametrize("count", [1, 100])
def test_many_insertions_at_one_place(count: int) -> None:
    graph = Graph(onnx.parser.parse_model(NESTED))
    before = graph.main.nodes[2]
    for number in range(count):
        node = onnx.helper.make_node("Neg", ["x"], [f"n{number}"])
        graph.main.add(node, before=before)
        before = node
    names = [node.output[0] for node in graph.main.nodes]
    assert names == ["i", "j", *(f"n{n}" for n in reversed(range(count))), "h", "y", "z"]
    assert graph.main.first_reader("x") is before
    assert graph.main.following(before) is graph.main.nodes[3]


def test_a_node_that_names_two_outputs_alike_keeps_one() -> None:
    main = Graph(onnx.parser.parse_model(NESTED)).main
    node = main.nodes[0]
    node.output[:] = ["twice", "twice"]
    main.touch(node)
    main.set_output(node, 0, "other")
    assert main.producer("twice") is main.producer("other") is node


def test_ancestors_stop_where_told() -> None:
    main = Graph(onnx.parser.parse_model(NESTED)).main
    assert main.ancestors(["y"]) == list(main.nodes[:4])
    assert main.ancestors(["y"], stop=["j"]) == list(main.nodes[2:4])
    assert main.ancestors(["x", "w"]) == []
