"""What runtimes build beside the weights, from shapes alone."""

import numpy as np
import onnx
import pytest

from graphopt.facts.built import Built, built
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text

SIZES = {
    "big": np.array([40000, 40000]),
    "immense": np.array([2**40, 2**40]),
    "one": np.ones((1, 1), np.float32),
    "start": np.array(0),
    "end": np.array(10**12),
    "step": np.array(1),
    "many": np.array([10**6, 10**6]),
    "pads": np.array([0, 0, 10**9, 0]),
}


def of(body: str, ports: str = "(float[N, 1] x) => (float[] y)") -> Built:
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    constants = {name: values for name, values in SIZES.items() if name in words}
    head = '<ir_version: 8, opset_import: ["" : 17]> g '
    graph = Graph(model_from_text(f"{head}{ports} {{ {body} }}", constants))
    return built(graph, infer(graph))


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("[n] k = ConstantOfShape(big) r = ReduceMax(k) y = Add(x, r)", 6_400_000_000),
        ("[n] k = ConstantOfShape(immense) r = ReduceMax(k) y = Add(x, r)", 2**82),
        ("[n] k = Expand(one, big) r = ReduceMax(k) y = Add(x, r)", 6_400_000_000),
        ("[n] k = Tile(one, many) r = ReduceMax(k) y = Add(x, r)", 4 * 10**12),
        ("[n] k = Range(start, end, step) r = ReduceMax(k) y = Sum(x, x)", 8 * 10**12),
        ("[n] k = Pad(one, pads) r = ReduceMax(k) y = Add(x, r)", 4 * (10**9 + 1)),
        ("[n] k = Expand(x, big) y = ReduceMax(k)", 6_400_000_000),
    ],
)
def test_one_node_that_makes_too_much(body: str, part: int) -> None:
    found = of(body)
    assert (found.node, found.part) == ("n", part)
    assert found.total >= part


def test_constants_add_up_and_of_the_run_the_largest_tensor_counts() -> None:
    many = "".join(f"k{i} = ConstantOfShape(big) r{i} = ReduceMax(k{i}) " for i in range(3))
    assert of(f"{many} y = Sum(r0, r1, r2)").total >= 3 * 6_400_000_000
    run = "".join(f"k{i} = Expand(x, big) r{i} = ReduceMax(k{i}) " for i in range(3))
    assert of(f"{run} y = Sum(r0, r1, r2)").total < 7_000_000_000


def test_drawn_tensors_and_bodies_are_no_constants() -> None:
    drawn = of(
        "k = RandomNormal<shape = [1000]>() j = RandomNormal<shape = [1000]>() y = Sum(x, x)"
    )
    assert drawn.total == 4000


def test_a_sparse_initializer_counts_written_out() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float y) { y = Sum(x) }'
    model = onnx.parser.parse_model(text)
    sparse = model.graph.sparse_initializer.add(dims=[40000, 40000])
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.ones(1, np.float32), "w"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.array([7]), "w_i"))
    graph = Graph(model)
    found = built(graph, infer(graph))
    assert (found.node, found.part) == ("w", 6_400_000_000)


def test_unknown_sizes_count_as_one() -> None:
    assert of("y = Relu(x)") == Built(4, "Relu(y)", 4)
