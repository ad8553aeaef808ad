from __future__ import annotations

import numpy as np
import onnx

from graphopt.facts.operands import Operand, operand
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.rewrite.values import drop_unread, set_values
from graphopt.testing import MODELS, model_from_text


def _graph(body: str) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
      g (float[N,2] x) => (float[N,2] y) {{ {body} }}"""
    return io.load(model_from_text(text, {"w": np.ones((2, 2), np.float32)}))


def _read(graph: Graph, node: int) -> Operand:
    found = operand(graph.main, graph.main.nodes[node], 1)
    assert found is not None
    return found


def test_one_reader_through_identity() -> None:
    graph = _graph("h = Identity (w) y = MatMul (x, h)")
    assert _read(graph, -1).alone
    assert not set_values(_read(graph, -1), np.zeros((2, 2), np.float32))
    assert not graph.read(graph.main.initializers["w"]).any()
    assert graph.main.nodes[-1].input[1] == "h"


def test_a_reader_behind_a_transpose_sees_the_values_as_given() -> None:
    graph = _graph("h = Transpose (w) y = MatMul (x, h)")
    values = np.array([[1, 2], [3, 4]], np.float32)
    assert not set_values(_read(graph, -1), values)
    np.testing.assert_array_equal(graph.read(graph.main.initializers["w"]), values.T)
    np.testing.assert_array_equal(_read(graph, -1).values(), values)


def test_a_shared_constant_is_copied_for_the_one_that_changes() -> None:
    graph = _graph("h = Transpose (w) a = MatMul (x, h) y = MatMul (a, w)")
    values = np.array([[0, 1], [0, 0]], np.float32)
    assert set_values(_read(graph, 1), values)
    assert [list(node.input) for node in graph.main.nodes] == [["x", "w_copy"], ["a", "w"]]
    assert graph.read(graph.main.initializers["w"]).all()
    np.testing.assert_array_equal(graph.read(graph.main.initializers["w_copy"]), values)


def test_a_reader_in_a_body_counts() -> None:
    graph = io.load(MODELS["bodies"]())
    body = next(scope for scope in graph.scopes() if "W1" in scope.captures())
    use = next(use for use in graph.main.uses("W1") if use.scope is body)
    found = operand(body, use.node, use.index)
    assert found is not None and not found.alone


def test_only_what_nobody_reads_goes() -> None:
    graph = _graph("h = Identity (w) i = Identity (w) y = MatMul (x, h)")
    main = graph.main
    drop_unread(main, ["h", "i", "w", ""])
    assert [node.output[0] for node in main.nodes] == ["h", "y"]
    main.set_input(main.nodes[-1], 1, "x")
    drop_unread(main, ["h"])
    assert not main.initializers


def test_constant_nodes_go_and_listed_initializers_stay() -> None:
    graph = _graph("k = Constant <value_float = 1.0> () y = Relu (x)")
    main = graph.main
    main.proto.input.append(onnx.helper.make_tensor_value_info("w", 1, [2, 2]))
    main.proto.value_info.append(onnx.helper.make_tensor_value_info("k", 1, []))
    drop_unread(main, ["k", "w"])
    assert [node.output[0] for node in main.nodes] == ["y"]
    assert list(main.initializers) == ["w"]
    assert not list(main.value_infos)


def test_a_constant_of_the_scope_around_goes_with_its_last_reader_in_a_body() -> None:
    graph = io.load(MODELS["bodies"]())
    body = next(scope for scope in graph.scopes() if "W2" in scope.captures())
    body.set_input(body.nodes[0], 1, "x")
    drop_unread(body, ["W2"])
    assert set(graph.main.initializers) == {"W1", "B2"}
