"""Palettes in a graph, against the weights that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graphopt.facts import cost
from graphopt.facts.form import model_form
from graphopt.facts.inventory import inventory
from graphopt.facts.layers import Layer, layers
from graphopt.facts.operands import operand
from graphopt.graph import check, io
from graphopt.graph.graph import Graph
from graphopt.rewrite.palettes import (
    Palette,
    Shared,
    store_half,
    store_palette,
    stored_as,
    stored_floats,
)
from graphopt.rewrite.values import drop_unread
from graphopt.runtime.optimized import optimize
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

RNG = np.random.default_rng(2)


def conv(opset: int, shape: tuple[int, ...] = (8, 4, 3, 3)) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
      g (float[1,{shape[1]},6,6] x) => (float[1,{shape[0]},4,4] y) {{
        y = Conv(x, w, b)
      }}"""
    weight = RNG.normal(size=shape).astype(np.float32)
    bias = RNG.normal(size=shape[0]).astype(np.float32)
    return io.load(model_from_text(text, {"w": weight, "b": bias}))


def palette(bits: int, shape: tuple[int, ...]) -> Palette:
    codes = RNG.integers(0, 1 << bits, shape)
    centres = stored_floats(np.sort(RNG.normal(size=1 << bits)).astype(np.float32))
    scale = stored_floats(RNG.uniform(1, 2, (shape[0], 1, 1, 1)).astype(np.float32))
    return Palette(codes, bits, centres, scale)


def put(graph: Graph, made: Palette, shared: Shared | None = None) -> None:
    constant = graph.main.constant("w")
    assert constant is not None
    store_palette(constant, made, {} if shared is None else shared)
    assert check.problems(graph) == []


def read(graph: Graph) -> Layer:
    return next(each for each in layers(graph) if isinstance(each, Layer))


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
@pytest.mark.parametrize("bits", range(1, 9))
def test_onnxruntime_computes_the_weight_once_and_exactly(bits: int, opset: int) -> None:
    graph = conv(opset)
    made = palette(bits, (8, 4, 3, 3))
    feed = {"x": RNG.normal(size=(1, 4, 6, 6)).astype(np.float32)}
    plain = graph.copy()
    constant = plain.main.constant("w")
    assert constant is not None
    constant.set(made.values())
    put(graph, made)
    expected, found = Session(plain).run(feed), Session(graph).run(feed)
    np.testing.assert_array_equal(found["y"], expected["y"])
    assert [node.op_type for node in optimize(graph, 1).node] == ["Conv"]


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_layer_view_sees_through_it(bits: int) -> None:
    graph = conv(17)
    plain = graph.copy()
    made = palette(bits, (8, 4, 3, 3))
    put(graph, made)
    one = read(graph)
    assert one.weight.form == "codebook" and one.weight.dims == (8, 4, 3, 3)
    assert (one.out_channels, one.in_channels) == (8, 4)
    assert one.weight.shape == (8, 4, 3, 3) and one.weight.data_type == 1
    np.testing.assert_array_equal(one.weight.values(), made.values())
    assert sum(isinstance(each, Layer) for each in layers(graph)) == 1
    assert model_form(graph).name == "weight-only"
    assert cost.params(graph) == cost.params(plain)
    held = next(each for each in inventory(graph) if each.elements == 8 * 4 * 9)
    assert held.reader == "Conv" and held.stored.endswith("codebook")


def test_integers_of_eight_bits_need_no_codebook() -> None:
    graph = conv(17)
    codes = RNG.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8)
    made = Palette(codes, 8, None, np.full((8, 1, 1, 1), 0.5, np.float32))
    put(graph, made)
    one = read(graph)
    assert one.weight.form == "expanded"
    assert one.weight.constant.values.dtype == np.int8
    np.testing.assert_array_equal(one.weight.values(), codes * np.float32(0.5))


def test_an_odd_number_of_codes_takes_wider_fields() -> None:
    graph = conv(17, (5, 1, 3, 3))
    made = palette(3, (5, 1, 3, 3))
    put(graph, made)
    one = read(graph)
    assert one.weight.constant.shape == (5, 1, 3, 3)  # bytes
    np.testing.assert_array_equal(one.weight.values(), made.values())


def test_what_unpacks_is_shared_and_goes_with_its_last_reader() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
      g (float[N,8] x) => (float[N,8] y) { h = MatMul(x, w) y = MatMul(h, v) }"""
    values = RNG.normal(size=(8, 8)).astype(np.float32)
    graph = io.load(model_from_text(text, {"w": values, "v": values}))
    shared: Shared = {}
    for name in ("w", "v"):
        constant = graph.main.constant(name)
        assert constant is not None
        codes = RNG.integers(0, 8, (8, 8))
        centres = np.arange(8, dtype=np.float32)
        store_palette(constant, Palette(codes, 3, centres, np.ones((1, 8), np.float32)), shared)
    assert sum(t.dims[:] == [256, 8] for t in graph.main.initializers.values()) == 1
    product = graph.main.nodes[-1]
    graph.main.set_input(product, 1, graph.main.add_constant("z", values))
    drop_unread(graph.main, ["v"])
    assert not any("v" in node.output for node in graph.main.nodes)
    assert check.problems(graph) == []
    first = operand(graph.main, graph.main.nodes[-2], 1)
    assert first is not None and first.form == "codebook"
    graph.main.set_input(graph.main.nodes[-2], 1, "z")
    drop_unread(graph.main, ["w"])
    assert list(graph.main.initializers) == ["z"]
    assert [node.op_type for node in graph.main.nodes] == ["MatMul", "MatMul"]


def test_a_lookup_by_constant_rows_of_a_table_is_no_codebook() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
      g (float[N,4] x) => (float[N,4] y) {
        i = Cast<to = 7>(rows) t = Gather(table, i) y = MatMul(x, t)
      }"""
    constants: dict[str, NDArray[Any]] = {
        "rows": np.arange(4, dtype=np.int32),
        "table": np.eye(4, dtype=np.float32),
    }
    graph = io.load(model_from_text(text, constants))
    assert operand(graph.main, graph.main.nodes[-1], 1) is None
    kinds = [each.kind for each in layers(graph) if isinstance(each, Layer)]
    assert kinds == ["table"]


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("bits", range(1, 9))
def test_bytes_are_what_they_are_said_to_be(bits: int, opset: int) -> None:
    graph, shape = conv(opset, (16, 8, 3, 3)), (16, 8, 3, 3)
    before = graph.to_model().ByteSize()
    made = palette(bits, shape)
    put(graph, made)
    taken = graph.to_model().ByteSize() - before + 16 * 8 * 9 * 4
    tables = 0 if opset == 21 and bits == 4 else 2048
    said = stored_as(bits, np.ones(shape), 16, opset).nbytes
    assert said - 160 <= taken <= said + tables + 160


HALVES: dict[str, tuple[list[float], bool]] = {
    "large enough": ([float(value) for value in range(40)], True),
    "too few": ([1.0, 2.0], False),
    "beyond their range": ([1e6 + value for value in range(40)], False),
    "too small for them": ([1e-9 * (value + 1) for value in range(40)], False),
    "small ones beside large ones": ([1.0, 1e-12] * 20, True),
}


@pytest.mark.parametrize("values, stored", HALVES.values(), ids=HALVES)
def test_half_floats_where_they_hold_the_values(values: list[float], stored: bool) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
      g (float[N,K] x) => (float[N,K] y) { y = Add(x, b) }"""
    array = np.array(values, np.float32)
    graph = io.load(model_from_text(text, {"b": array}))
    constant = graph.main.constant("b")
    assert constant is not None and store_half(constant) is stored
    again = operand(graph.main, graph.main.nodes[-1], 1)
    assert again is not None and again.data_type == 1 and again.form == "float"
    np.testing.assert_allclose(again.values(), array, rtol=1e-3, atol=1e-6 * array.max())
    assert check.problems(graph) == []


@pytest.mark.parametrize("opset", [11, 17, 21])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_zeros_take_a_bit_and_are_zero(share: float, bits: int, opset: int) -> None:
    shape = (8, 4, 3, 3)
    graph = conv(opset, shape)
    full = palette(bits, shape)
    assert full.centres is not None
    made = Palette(full.codes, bits, full.centres, full.scale, RNG.uniform(size=shape) < share)
    plain = graph.copy()
    constant = plain.main.constant("w")
    assert constant is not None
    constant.set(made.values())
    put(graph, made)
    one = read(graph)
    np.testing.assert_array_equal(one.weight.values(), made.values())
    assert not one.weight.values()[~np.asarray(made.mask)].any()
    assert one.weight.dims == shape and one.weight.scale is not None
    assert sum(isinstance(each, Layer) for each in layers(graph)) == 1
    assert cost.params(graph) == cost.params(plain)
    feed = {"x": RNG.normal(size=(1, 4, 6, 6)).astype(np.float32)}
    np.testing.assert_array_equal(Session(graph).run(feed)["y"], Session(plain).run(feed)["y"])
    assert [node.op_type for node in optimize(graph, 1).node] == ["Conv"]
    graph.main.set_input(graph.main.nodes[-1], 1, graph.main.add_constant("z", made.values()))
    drop_unread(graph.main, ["w"])
    assert [node.op_type for node in graph.main.nodes] == ["Conv"]


def test_the_smaller_form_is_taken() -> None:
    weight = RNG.standard_normal((64, 64))
    sparse = weight * (RNG.uniform(size=weight.shape) < 0.2)
    assert not stored_as(4, weight, 64, 17).sparse
    assert stored_as(4, sparse, 64, 17).sparse
    assert stored_as(4, sparse, 64, 17).nbytes < 0.7 * stored_as(4, weight, 64, 17).nbytes
    assert not stored_as(1, sparse, 64, 17).sparse
    assert not stored_as(None, sparse, 64, 17).sparse
