from __future__ import annotations

import numpy as np
from onnx import TensorProto, numpy_helper, parser

from graphopt.facts.shapes import TensorInfo
from graphopt.graph.graph import Graph
from graphopt.runtime.trace import trace

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 4] x) => (int64[M] y, seq(float[K]) s)
{
    r = Relu(x)
    e = Exp(x)
    flat = Reshape(e, shape)
    h = Cast<to = 10>(flat)
    s = SplitToSequence(flat)
    b = Cast<to = 9>(r)
    y = NonZero(b)
}
"""


def graph_of(shape: list[int]) -> Graph:
    model = parser.parse_model(MODEL)
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), "shape"))
    return Graph(model)


def test_types_and_shapes_of_every_tensor_even_unread_ones() -> None:
    feeds = {"x": np.ones((2, 4), np.float32)}
    found = trace(graph_of([8]), feeds)
    assert found == {
        "r": TensorInfo(TensorProto.FLOAT, (2, 4)),
        "e": TensorInfo(TensorProto.FLOAT, (2, 4)),
        "flat": TensorInfo(TensorProto.FLOAT, (8,)),
        "h": TensorInfo(TensorProto.FLOAT16, (8,)),
        "b": TensorInfo(TensorProto.BOOL, (2, 4)),
        "y": TensorInfo(TensorProto.INT64, (2, 8)),
    }


def test_a_run_that_fails_leaves_the_types() -> None:
    found = trace(graph_of([7]), {"x": np.ones((2, 4), np.float32)})
    assert found["flat"] == TensorInfo(TensorProto.FLOAT, None)
    assert found["b"] == TensorInfo(TensorProto.BOOL, None)


def test_a_model_that_does_not_load_gives_nothing() -> None:
    graph = graph_of([8])
    graph.main.nodes[0].op_type = "NoSuchOperator"
    assert trace(graph, {"x": np.ones((2, 4), np.float32)}) == {}
