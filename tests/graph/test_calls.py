"""Local functions: recursion, unfolding beyond the bounds, names that they leave open."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import FunctionProto, ModelProto
from onnx.helper import make_function, make_graph, make_node, make_opsetid

from graphopt.errors import ModelError
from graphopt.graph import calls, io

IMPORTS = [make_opsetid("", 17), make_opsetid("loc", 1)]


def function(name: str, *nodes: onnx.NodeProto, inputs: Sequence[str] = ("a",)) -> FunctionProto:
    return make_function("loc", name, list(inputs), ["o"], list(nodes), IMPORTS)


def call(name: str, source: str = "a", result: str = "o") -> onnx.NodeProto:
    return make_node(name, [source], [result], domain="loc")


def model(functions: Sequence[FunctionProto], called: str = "F") -> ModelProto:
    x, y = (onnx.helper.make_tensor_value_info(name, 1, ["N"]) for name in "xy")
    graph = make_graph([call(called, "x", "y")], "g", [x], [y])
    return onnx.helper.make_model(graph, opset_imports=IMPORTS, ir_version=8, functions=functions)


def doubled(levels: int, nodes: Sequence[onnx.NodeProto]) -> ModelProto:
    """Functions each of which calls the one before twice."""
    functions = [function("F0", *nodes)]
    for level in range(1, levels + 1):
        below = f"F{level - 1}"
        functions.append(function(f"F{level}", call(below, "a", "m"), call(below, "m", "o")))
    return model(functions, f"F{levels}")


RELU = make_node("Relu", ["a"], ["o"])
BODY = make_graph([call("F", "a", "b")], "body", [], [onnx.ValueInfoProto(name="b")])
CONDITION = make_node("Constant", [], ["c"], value=onnx.helper.make_tensor("", 9, [], [True]))
INSIDE = make_node("If", ["c"], ["o"], then_branch=BODY, else_branch=BODY)


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ([function("F", call("F"))], "function 'loc:F' calls itself"),
        ([function("F", call("G")), function("G", call("F"))], "calls itself, at once or through"),
        ([function("F", RELU), function("G", call("G"))], "function 'loc:G' calls itself"),
        ([function("F", CONDITION, INSIDE)], "function 'loc:F' calls itself"),
        ([function("F", RELU), function("F", RELU)], "function 'loc:F' is defined twice"),
        (
            [function("F", make_node("Relu", ["a"], ["o"], name="n", axis=1))],
            "node 'n': Relu has no attribute 'axis' in function 'loc:F'",
        ),
        ([function("F", make_node("Relu", ["a"], ["z"]))], "output 'o' is computed by nothing in"),
        (
            [function("F", make_node("Relu", ["a"], ["o"], name="n"), RELU)],
            "defines 'o' a second time in function 'loc:F'",
        ),
    ],
)
def test_faults(functions: Sequence[FunctionProto], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        io.load(model(functions))
    assert words in str(caught.value)


@pytest.mark.parametrize("levels", [20, 40, 2000])
def test_functions_that_double_are_counted_not_unfolded(levels: int) -> None:
    with pytest.raises(ModelError, match="its functions unfold to more than 1,000,000 nodes"):
        io.load(doubled(levels, [RELU]))


def test_constants_that_double_are_counted_too() -> None:
    value = onnx.numpy_helper.from_array(np.zeros(1 << 18, np.float32))
    constant = make_node("Constant", [], ["k"], value=value)
    with pytest.raises(ModelError, match="its functions unfold to more than 2,147,483,647 bytes"):
        io.load(doubled(12, [constant, make_node("Add", ["a", "k"], ["o"])]))


@pytest.mark.parametrize(
    "functions",
    [
        [function("F", RELU)],
        [function("F", call("G", "a", "m"), call("G", "m", "o")), function("G", RELU)],
        [function("F", RELU), function("G", RELU, RELU)],  # nobody calls G
        [function("F", RELU, inputs=("a", "b"))],
    ],
)
def test_what_onnxruntime_loads_passes(functions: Sequence[FunctionProto]) -> None:
    io.load(model(functions))


def test_some_levels_are_fine() -> None:
    graph = io.load(doubled(10, [RELU]))
    assert list(calls.miscalled(graph.header, graph.main.nodes)) == []
