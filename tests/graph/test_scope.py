"""Scopes: looking up constants wherever files keep them, readers in bodies, edits."""

import numpy as np
import onnx
import pytest

from graphopt.graph import check
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import label

NESTED = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[4] x, bool c) => (float[4] y) <float[4] w = {1, 2, 3, 4}> {
  k = Constant <value_floats = [5.0, 6.0, 7.0, 8.0]> ()
  i = Identity(w)
  j = Identity(i)
  h = Add(x, j)
  [branch] y = If (c) <
    then_branch = t () => (float[4] a) {
      m = Mul(h, w)
      [inner] a = If (c) <
        then_branch = tt () => (float[4] aa) { aa = Add(m, k) },
        else_branch = te () => (float[4] h) {}
      >
    },
    else_branch = e () => (float[4] b) <float[4] v = {0, 0, 0, 1}> { b = Add(h, v) }
  >
}
"""


@pytest.fixture
def graph() -> Graph:
    return Graph(onnx.parser.parse_model(NESTED))


def constant(scope: Scope, name: str) -> Constant:
    found = scope.constant(name)
    assert found is not None
    return found


def test_scopes_and_paths(graph: Graph) -> None:
    paths = [scope.path for scope in graph.scopes()]
    assert paths == ["", "branch/", "branch/inner/", "branch/inner/", "branch/"]


def test_readers_in_bodies(graph: Graph) -> None:
    def readers(name: str) -> list[tuple[str, int]]:
        return [(label(use.node), use.index) for use in graph.main.uses(name)]

    assert readers("w") == [("Identity(i)", 0), ("Mul(m)", 1)]
    assert readers("k") == [("Add(aa)", 1)]
    assert readers("h") == [("Mul(m)", 0), ("inner", -1), ("Add(b)", 0)]
    assert readers("c") == [("branch", 0), ("inner", 0)]


def test_constants_wherever_they_are(graph: Graph) -> None:
    assert constant(graph.main, "j").origin == "w"
    deep = next(scope for scope in graph.scopes() if scope.producer("aa"))
    found = constant(deep, "k")
    assert (found.scope, found.shape, found.data_type, found.nbytes) == (graph.main, (4,), 1, 16)
    assert found.values.tolist() == [5, 6, 7, 8]
    assert deep.constant("m") is None
    assert deep.constant("x") is None
    assert deep.constant("nowhere") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("value = float[2] {1, 2}", [1.0, 2.0]),
        ("value_float = 2.5", 2.5),
        ("value_int = 7", 7),
        ("value_ints = [1, 2]", [1, 2]),
    ],
)
def test_forms_of_constant_nodes(text: str, value: object) -> None:
    graph = Graph(
        onnx.parser.parse_model(
            '<ir_version: 9, opset_import: ["" : 18]> g (float x) => (float y) '
            f"{{ k = Constant <{text}> () y = Identity(x) }}"
        )
    )
    found = constant(graph.main, "k")
    assert found.values.tolist() == value
    found.set(np.asarray(value) * 2)
    assert constant(graph.main, "k").values.tolist() == (np.asarray(value) * 2).tolist()
    assert len(graph.main.nodes[0].attribute) == 1


def test_sparse_initializer_hides_an_outer_constant(graph: Graph) -> None:
    branch = next(scope for scope in graph.scopes() if scope.producer("b"))
    sparse = branch.proto.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(onnx.helper.make_tensor("w", 1, [1], [1.0]))
    sparse.indices.CopyFrom(onnx.helper.make_tensor("", 7, [1], [2]))
    assert branch.defines("w")
    found = branch.constant("w")
    assert found is not None
    assert found.scope is branch
    assert found.values.tolist() == [0, 0, 1, 0]


def test_new_values_retype_what_is_declared() -> None:
    graph = Graph(
        onnx.parser.parse_model(
            """<ir_version: 9, opset_import: ["" : 18]>
            g (float[N, 2] x, float[2, 2] w) => (float[N, M] y)
            <float[2, 2] w = {1, 2, 3, 4}, float[2, 2] i> { i = Identity(w) y = MatMul(x, i) }"""
        )
    )
    constant(graph.main, "i").set(np.ones((2, 5), np.float32))
    dims = [
        [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (graph.main.proto.input[1], *graph.main.value_infos)
    ]
    assert dims == [[2, 5], [2, 5]]
    assert check.problems(graph) == []


def test_replace_uses_reaches_bodies(graph: Graph) -> None:
    graph.main.replace_uses("k", "w")
    assert graph.main.uses("k") == []
    assert ("Add(aa)", 1) in [(label(use.node), use.index) for use in graph.main.uses("w")]


def test_set_input_fills_optional_inputs(graph: Graph) -> None:
    node = graph.main.nodes[3]
    graph.main.set_input(node, 3, "w")
    assert list(node.input) == ["x", "j", "", "w"]
    assert (label(node), 3) in [(label(u.node), u.index) for u in graph.main.uses("w")]


def test_removed_nodes_take_their_bodies(graph: Graph) -> None:
    graph.main.remove([graph.main.nodes[4]])
    assert list(graph.scopes()) == [graph.main]
    assert graph.main.uses("k") == []


def test_add_before(graph: Graph) -> None:
    node = onnx.helper.make_node("Neg", ["x"], ["n"])
    graph.main.add(node, before=graph.main.nodes[2])
    assert graph.main.nodes[2] is node
    assert graph.main.producer("n") is node


def test_the_value_of_a_constant_node_goes_by_its_type() -> None:
    make = onnx.helper.make_attribute
    node = onnx.helper.make_node("Constant", [], ["k"])
    node.attribute.extend([make("value_int", [1, 2]), make("value_float", 3.0)])
    graph = onnx.helper.make_graph([node], "g", [], [onnx.ValueInfoProto(name="k")])
    constant = Graph(onnx.helper.make_model(graph)).main.constant("k")
    assert constant is not None and constant.values.tolist() == [1, 2]
    constant.set(np.array([5]))
    again = constant.scope.constant("k")
    assert again is not None and again.values.tolist() == [5]
    assert [item.name for item in node.attribute] == ["value_int", "value_float"]
