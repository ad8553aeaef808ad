from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.graph import check
from graphopt.graph.graph import Graph
from graphopt.rewrite import qdq
from graphopt.runtime.session import Session

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[2, 3] x, bool c) => (float[2, 3] y, float[2, 3] h, float[2, 3] z)
<float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float unread = {1}>
{
    h = Relu(x)
    y = MatMul(h, w)
    z = If (c) <
        then_branch = g1 () => (float[2, 3] a) { a = Identity(h) },
        else_branch = g2 () => (float[2, 3] b) { b = Neg(h) }
    >
}
"""
X = np.array([[0.3, -1, 0.9], [0, 2.6, 1]], np.float32)
STEP = 0.5


def parsed() -> Graph:
    return Graph(onnx.parser.parse_model(TEXT))


def run(graph: Graph) -> dict[str, np.ndarray]:
    assert check.problems(graph) == []
    # level off: MatMulNBits, which onnxruntime would make, rounds activations
    return Session(graph, level="off").run({"x": X, "c": np.array(True)})


def test_quantize_dequantize_serves_all_readers_but_outputs() -> None:
    graph = parsed()
    name = qdq.add_quantize_dequantize(graph.main, "h", STEP, 3)
    assert name == "h_dequantized"
    assert graph.main.initializers["h_scale"].dims == []
    rounded = np.rint(np.maximum(X, 0) / STEP) * STEP
    result = run(graph)
    assert np.array_equal(result["h"], np.maximum(X, 0))
    assert np.array_equal(result["z"], rounded)
    assert np.allclose(result["y"], rounded @ np.arange(1, 10).reshape(3, 3))


def test_quantize_dequantize_serves_chosen_readers() -> None:
    graph = parsed()
    uses = [use for use in graph.main.uses("h") if use.node.op_type == "MatMul"]
    qdq.add_quantize_dequantize(graph.main, "h", STEP, 0, uses=uses)
    assert np.array_equal(run(graph)["z"], np.maximum(X, 0))


@pytest.mark.parametrize(("scale", "axis"), [(0.5, None), (np.array([1, 2, 4], np.float32), 1)])
def test_dequantize_stores_a_constant(scale: float, axis: int | None) -> None:
    graph = parsed()
    codes = np.arange(9, dtype=np.int8).reshape(3, 3)
    name = qdq.add_dequantize(graph.main, "w", codes, scale, axis=axis)
    graph.main.set_input(graph.main.nodes[1], 1, name)
    result = run(graph)["y"]
    assert np.allclose(result, np.maximum(X, 0) @ (codes * np.float32(scale)))
    zero_point = graph.main.initializers["w_zero_point"]
    assert (list(zero_point.dims), zero_point.data_type) == ([] if axis is None else [3], 3)


@pytest.mark.parametrize(("channels", "shared"), [(8, False), (64, True)])
def test_long_zero_points_of_zeros_are_shared(channels: int, shared: bool) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y) { y = Relu(x) }"""
    scope = Graph(onnx.parser.parse_model(text)).main
    codes = np.ones((2, channels), np.int8)
    scales = np.ones(channels, np.float32)
    for name in ("a", "b"):
        qdq.add_dequantize(scope, name, codes, scales, axis=1)
    zeros = {node.input[2] for node in scope.nodes if node.op_type == "DequantizeLinear"}
    assert len(zeros) == (1 if shared else 2)
