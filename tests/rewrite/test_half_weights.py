"""Half floats behind a Cast are float32 for a pass and half floats again in the file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.rewrite.half_weights import restore, widen
from graphopt.testing import model_from_text

RNG = np.random.default_rng(5)
HALF = RNG.normal(size=(4, 4)).astype(np.float16)


def graph_of(body: str, ports: str = "(float[2, 4] x) => (float[2, 4] y)") -> Graph:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g {ports} {{ {body} }}'
    return io.load(model_from_text(text, {"w": HALF}))


PLAIN = "v = Cast<to = 1>(w) y = MatMul(x, v)"


def kinds(graph: Graph) -> dict[str, int]:
    return {name: tensor.data_type for name, tensor in graph.main.initializers.items()}


def test_what_is_left_alone_comes_back_to_the_bit() -> None:
    graph = graph_of(PLAIN)
    before = graph.to_model().SerializeToString(deterministic=True)
    halves = widen(graph)
    constant = graph.main.constant("v")
    assert constant is not None and constant.values.dtype == np.float32
    np.testing.assert_array_equal(constant.values, HALF.astype(np.float32))
    restore(graph, halves)
    assert graph.to_model().SerializeToString(deterministic=True) == before


def test_values_that_half_floats_hold_are_stored_as_such() -> None:
    graph = graph_of(PLAIN)
    halves = widen(graph)
    constant = graph.main.constant("v")
    assert constant is not None
    masked = np.where(constant.values > 0, constant.values, 0)
    constant.set(masked)
    restore(graph, halves)
    (stored,) = graph.main.initializers.values()
    assert stored.data_type == onnx.TensorProto.FLOAT16
    np.testing.assert_array_equal(graph.read(stored), masked.astype(np.float16))
    assert [node.op_type for node in graph.main.nodes] == ["Cast", "MatMul"]


def test_others_stay_float32_and_the_half_floats_go() -> None:
    graph = graph_of(PLAIN)
    halves = widen(graph)
    constant = graph.main.constant("v")
    assert constant is not None
    constant.set(constant.values / np.float32(3))
    restore(graph, halves)
    assert kinds(graph) == {"v": onnx.TensorProto.FLOAT}
    assert [node.op_type for node in graph.main.nodes] == ["MatMul"]


@pytest.mark.parametrize(("factor", "kind"), [(0.1, 10), (1e6, 1)])
def test_others_are_rounded_where_that_is_asked_for_and_can_be(factor: float, kind: int) -> None:
    graph = graph_of(PLAIN)
    halves = widen(graph)
    constant = graph.main.constant("v")
    assert constant is not None
    values = constant.values * np.float32(factor)
    constant.set(values)
    restore(graph, halves, rounded=True)
    (stored,) = graph.main.initializers.values()
    assert stored.data_type == kind
    np.testing.assert_allclose(graph.read(stored).astype(np.float32), values, rtol=1e-3, atol=1e-6)


def test_what_a_pass_replaced_is_gone_in_either_form() -> None:
    graph = graph_of(PLAIN)
    halves = widen(graph)
    new = graph.main.add_constant("new", np.ones((4, 4), np.float32))
    graph.main.replace_uses("v", new)
    restore(graph, halves)
    assert list(graph.main.initializers) == ["new"]


def test_other_readers_keep_the_half_floats() -> None:
    graph = graph_of(f"{PLAIN} z = Abs(w)", "(float[2, 4] x) => (float[2, 4] y, float16[4, 4] z)")
    halves = widen(graph)
    constant = graph.main.constant("v")
    assert constant is not None
    constant.set(-constant.values)
    restore(graph, halves)
    read = {node.op_type: node.input[0] for node in graph.main.nodes}
    np.testing.assert_array_equal(graph.read(graph.main.initializers[read["Abs"]]), HALF)
    np.testing.assert_array_equal(graph.read(graph.main.initializers[read["Cast"]]), -HALF)


@pytest.mark.parametrize(
    ("body", "ports"),
    [
        ("y = Cast<to = 1>(w)", "(float[2, 4] x) => (float[4, 4] y)"),
        ("v = Cast<to = 11>(w) y = MatMul(x, v)", "(double[2, 4] x) => (double[2, 4] y)"),
        (PLAIN, "(float[2, 4] x, float16[4, 4] w) => (float[2, 4] y)"),
    ],
)
def test_what_is_not_widened(body: str, ports: str) -> None:
    graph = graph_of(body, ports)
    assert widen(graph) == []
    assert kinds(graph) == {"w": onnx.TensorProto.FLOAT16}
