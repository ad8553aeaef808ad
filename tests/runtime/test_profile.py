from __future__ import annotations

import numpy as np
from onnx import numpy_helper, parser

from graphopt.graph.graph import Graph
from graphopt.runtime.profile import node_times

CONVOLUTIONS = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 3, 16, 16] x) => (float[1, 10] y)
{
    [first] c1 = Conv<pads = [1, 1, 1, 1]>(x, w1)
    [relu] r1 = Relu(c1)
    [second] c2 = Conv<pads = [1, 1, 1, 1]>(r1, w2)
    [pool] p = GlobalAveragePool(c2)
    [flat] f = Flatten(p)
    [head] y = MatMul(f, w3)
}
"""


def graph_of() -> Graph:
    model = parser.parse_model(CONVOLUTIONS)
    for name, shape in {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "w3": (16, 10)}.items():
        weight = np.full(shape, 0.1, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    return Graph(model)


def test_time_of_each_kernel_by_the_name_of_its_node() -> None:
    times = node_times(graph_of(), {"x": np.ones((1, 3, 16, 16), np.float32)}, runs=3)
    assert {"first", "second", "head"} <= set(times)
    assert "relu" not in times  # fused into the first convolution
    assert all(0 < value < 1000 for value in times.values())


def test_nodes_without_a_name_go_by_type_and_output() -> None:
    graph = graph_of()
    for node in graph.main.nodes:
        node.name = ""
    times = node_times(graph, {"x": np.ones((1, 3, 16, 16), np.float32)}, runs=1)
    assert "MatMul(y)" in times and "Conv(c1)" in times
