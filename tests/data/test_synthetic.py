"""Random feeds from what a model says of its inputs."""

import onnx
import pytest

from graphopt.data.synthetic import SyntheticSamples
from graphopt.graph.graph import Graph


@pytest.mark.parametrize("size", [0, -1, -(2**62)])
def test_a_size_below_one_stands_for_a_free_axis(size: int) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (float[N, 3] y)'
    model = onnx.parser.parse_model(text + " { y = Relu(x) }")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = size
    feeds, rows = next(iter(SyntheticSamples(Graph(model)).feeds(batch=1)))
    assert rows == 1
    assert feeds["x"].ndim == 2
    assert feeds["x"].shape[1] > 0
