from __future__ import annotations

import numpy as np
import onnx

from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.rewrite.values import drop_unread, read_by_one, set_values
from graphopt.testing import MODELS, model_from_text


def _graph(body: str) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
      g (float[N,2] x) => (float[N,2] y) {{ {body} }}"""
    return io.load(model_from_text(text, {"w": np.ones((2, 2), np.float32)}))


def test_one_reader_through_identity() -> None:
    graph = _graph("h = Identity (w) y = MatMul (x, h)")
    main, node = graph.main, graph.main.nodes[-1]
    constant = main.constant("h")
    assert constant is not None
    assert read_by_one(main, constant)
    assert not set_values(main, node, 1, np.zeros((2, 2), np.float32))
    assert not graph.read(main.initializers["w"]).any()
    assert node.input[1] == "h"


def test_a_shared_constant_is_copied_for_the_one_that_changes() -> None:
    graph = _graph("a = MatMul (x, w) y = MatMul (a, w)")
    main = graph.main
    assert set_values(main, main.nodes[0], 1, np.zeros((2, 2), np.float32))
    assert [list(node.input) for node in main.nodes] == [["x", "w_copy"], ["a", "w"]]
    assert graph.read(main.initializers["w"]).all()


def test_a_reader_in_a_body_counts() -> None:
    graph = io.load(MODELS["bodies"]())
    constant = graph.main.constant("W1")
    assert constant is not None
    assert not read_by_one(graph.main, constant)


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
