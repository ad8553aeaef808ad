"""Constants as nodes read them, through what stands between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graphopt.errors import ModelError
from graphopt.facts.operands import Operand, operand
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

RNG = np.random.default_rng(11)
CONSTANTS: dict[str, NDArray[Any]] = {
    "w": RNG.normal(size=(4, 6)).astype(np.float32),
    "cube": RNG.normal(size=(2, 4, 6)).astype(np.float32),
    "i": RNG.integers(-127, 127, (4, 6)).astype(np.int8),
    "u": RNG.integers(0, 255, (4, 6)).astype(np.uint8),
    "long": np.arange(24).reshape(4, 6),
    "half": RNG.normal(size=(4, 6)).astype(np.float16),
    "s": np.asarray(0.5, np.float32),
    "s4": np.array([1, 2, 3, 4], np.float32),
    "z4": np.array([1, 20, 3, 128], np.uint8),
    "column": np.array([[1], [2], [3], [4]], np.float32),
    "blocks": np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float32),
    "size": np.array([3, -1]),
    "zero": np.array([0, 2, -1]),
}


def graph_of(body: str, ports: str = "(float x) => (float y)") -> Graph:
    """A graph with those of the constants that the body names; its last node reads the operand."""
    head = '<ir_version: 10, opset_import: ["" : 21]>'
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    constants = {name: values for name, values in CONSTANTS.items() if name in words}
    return Graph(model_from_text(f"{head} g {ports} {{ {body} }}", constants))


def last(graph: Graph, index: int = 1) -> Operand | None:
    return operand(graph.main, graph.main.nodes[-1], index)


PATHS: dict[str, tuple[int, ...] | None] = {
    "y = Sum(x, w)": (0, 1),
    "v = Identity(w) y = Sum(x, v)": (0, 1),
    "v = Transpose(w) y = Sum(x, v)": (1, 0),
    "v = Transpose(w) q = Transpose(v) y = Sum(x, q)": (0, 1),
    "v = Transpose<perm = [2, 0, 1]>(cube) y = Sum(x, v)": (2, 0, 1),
    "v = Transpose<perm = [2, 0, 1]>(cube) q = Transpose(v) y = Sum(x, q)": (1, 0, 2),
    "v = Reshape(w, size) y = Sum(x, v)": None,
    "v = Reshape(cube, zero) y = Sum(x, v)": None,
    "v = DequantizeLinear(i, s) y = Sum(x, v)": (0, 1),
    "v = DequantizeLinear<axis = 0>(u, s4, z4) q = Transpose(v) y = Sum(x, q)": (1, 0),
    "v = DequantizeLinear<axis = -2>(u, s4, z4) y = Sum(x, v)": (0, 1),
    "v = DequantizeLinear<axis = 1, block_size = 3>(i, blocks) y = Sum(x, v)": (0, 1),
    "v = Cast<to = 1>(half) y = Sum(x, v)": (0, 1),
    "c = Cast<to = 1>(i) v = Mul(c, column) y = Sum(x, v)": (0, 1),
    "c = Cast<to = 1>(i) q = Transpose(c) v = Mul(s, q) y = Sum(x, v)": (1, 0),
}


@pytest.mark.parametrize("body", PATHS)
def test_what_a_node_reads(body: str) -> None:
    graph = graph_of(body)
    found = last(graph)
    assert found is not None
    assert found.order == PATHS[body]
    result = Session(graph, level="off").run({"x": np.zeros((), np.float32)})["y"]
    np.testing.assert_allclose(found.values(), result, rtol=1e-6)
    if found.form == "float" and found.order is not None:
        np.testing.assert_array_equal(found.stored(found.values()), found.constant.values)


NONE = {
    "computed": "v = Relu(w) y = Sum(x, v)",
    "an activation": "y = Sum(w, x)",
    "a product of activations": "v = Mul(x, x) y = Sum(x, v)",
    "an activation times a constant": "v = Mul(x, s) y = Sum(x, v)",
    "integers that are no codes": "v = Gather(w, long) y = Sum(x, v)",
    "a scale that is computed": "t = Exp(x) v = DequantizeLinear(i, t) y = Sum(x, v)",
    "a shape that is computed": "t = Shape(x) v = Reshape(w, t) y = Sum(x, v)",
    "nothing": "y = Sum(x)",
}


@pytest.mark.parametrize("what", NONE)
def test_what_is_no_constant(what: str) -> None:
    assert last(graph_of(NONE[what])) is None


def test_integers_are_codes_only_behind_what_expands_them() -> None:
    graph = graph_of("y = Gather(w, long)")
    assert last(graph) is None
    cast = graph_of("v = Cast<to = 1>(long) y = Sum(x, v)")
    found = last(cast)
    assert found is not None and found.form == "expanded"


def test_who_reads_it() -> None:
    ports = "(float x) => (float y, float v)"
    graph = graph_of("v = Transpose(w) y = Sum(x, v)", ports)
    found = last(graph)
    assert found is not None
    assert [label(use.node) for use in found.readers] == ["Sum(y)"]
    assert found.given_out and not found.alone
    twice = last(graph_of("v = Identity(w) q = Sum(w, x) y = Sum(q, v)"))
    assert twice is not None
    assert [label(use.node) for use in twice.readers] == ["Sum(y)", "Sum(q)"]
    assert not twice.given_out and not twice.alone
    once = last(graph_of("y = Sum(x, w)"))
    assert once is not None and once.alone


def test_scales() -> None:
    for body, name in {
        "v = DequantizeLinear<axis = 0>(u, s4, z4) y = Sum(x, v)": "s4",
        "c = Cast<to = 1>(i) v = Mul(column, c) y = Sum(x, v)": "column",
        "v = Cast<to = 1>(half) y = Sum(x, v)": None,
    }.items():
        found = last(graph_of(body))
        assert found is not None
        assert (None if found.scale is None else found.scale.origin) == name


@pytest.mark.parametrize(
    "body",
    [
        "[n] v = Transpose<perm = [0, 2]>(w) y = Sum(x, v)",
        "[n] v = Transpose<perm = [0]>(w) y = Sum(x, v)",
        "[n] v = Cast<to = 99>(w) y = Sum(x, v)",
        "[n] v = DequantizeLinear<axis = 1>(i, s4) y = Sum(x, v)",
        "[n] v = DequantizeLinear<axis = 1, block_size = -3>(i, blocks) y = Sum(x, v)",
        f"[n] v = DequantizeLinear<axis = 1, block_size = {2**62}>(i, blocks) y = Sum(x, v)",
    ],
)
def test_what_does_not_fit_a_constant_is_an_error_of_the_model(body: str) -> None:
    found = last(graph_of(body))
    assert found is not None
    with pytest.raises(ModelError, match=f"node 'n' does not fit '{found.constant.name}' of shape"):
        found.values()


def test_a_constant_is_not_spread_to_something_larger() -> None:
    column, row = np.ones((2000, 1), np.int8), np.ones((1, 2000), np.float32)
    text = (
        '<ir_version: 10, opset_import: ["" : 21]> g (float x) => (float y) '
        "{ v = Cast<to = 1>(tall) [n] q = Mul(v, wide) y = Sum(x, q) }"
    )
    found = last(Graph(model_from_text(text, {"tall": column, "wide": row})))
    assert found is not None
    with pytest.raises(ModelError, match="node 'n' does not fit 'tall' of shape"):
        found.values()


def test_half_floats_behind_a_cast_are_floats_that_others_may_read_too() -> None:
    found = last(graph_of("v = Cast<to = 1>(half) y = Sum(x, v)"))
    assert found is not None and found.form == "float" and found.alone
    assert found.data_type == 1 and found.dtype == np.dtype(np.float32)
    shared = last(graph_of("v = Cast<to = 1>(half) c = Cast<to = 1>(half) y = Sum(c, v)"))
    assert shared is not None and len(shared.readers) == 2 and not shared.alone
    codes = last(graph_of("v = Cast<to = 1>(i) y = Sum(x, v)"))
    assert codes is not None and codes.form == "expanded"
