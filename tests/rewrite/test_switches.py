"""Layers that an input switches between floats and integers."""

from __future__ import annotations

import numpy as np
import pytest

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract.spec import parse_passes
from graphopt.graph.node import label
from graphopt.graph.tensors import Array
from graphopt.numerics.sqnr import sqnr_db
from graphopt.rewrite.switches import Switches, with_switches
from graphopt.run.sequence import run_passes
from graphopt.run.stage import Stage
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, model_from_text, staged


def switched(model: str, lift: str = "eliminate-dead") -> tuple[Stage, Stage, Switches]:
    stage, means = staged(MODELS[model](), target="x86-avx2", count=4)
    before, _ = run_passes(stage, means, parse_passes(lift))
    after, _ = run_passes(before, means, parse_passes("quantize-static"))
    ranks = {
        label(node): len(info.shape)
        for node in before.graph.main.nodes
        if node.op_type == "Conv"
        if (info := before.sizes.shapes.get(node.output[0])) is not None and info.shape is not None
    }
    return before, after, with_switches(before.graph, after.graph, ranks)


@pytest.mark.parametrize(
    ("model", "lift"),
    [
        ("cnn", "eliminate-dead"),
        ("cnn", "upgrade-opset{opset=21}"),
        ("mlp", "eliminate-dead"),
        ("transformer", "upgrade-opset{opset=21}"),
    ],
)
def test_the_float_model_comes_back_and_integers_are_close(model: str, lift: str) -> None:
    before, after, made = switched(model, lift)
    assert len(made.inputs) >= 2
    feeds = {
        value.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)
        for value in before.graph.required_inputs
        if (shape := before.sizes.inputs.get(value.name) or _declared(value))
    }
    session = Session(made.graph, threads=1)
    name = before.graph.main.outputs[0]
    right = Session(before.graph, threads=1).run(feeds)[name]
    plain = session.run(feeds | made.feed({}))[name]
    np.testing.assert_allclose(plain, right, rtol=1e-4, atol=1e-5)
    every = session.run(feeds | made.feed(dict.fromkeys(made.inputs, True)))[name]
    quantized = Session(after.graph, threads=1).run(feeds)[name]
    assert 25 < (ours := _db(right, every)) < 80
    assert _db(right, quantized) > 25
    for each in made.inputs:
        assert _db(right, session.run(feeds | made.feed({each: True}))[name]) > ours - 3


def _db(right: Array, answer: Array) -> float:
    found = sqnr_db(right, answer)
    assert found is not None
    return found


def _declared(value: object) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim  # type: ignore[attr-defined]  # a message
    return tuple(dim.dim_value or 1 for dim in dims)


def test_the_graph_itself_stays_as_it_is() -> None:
    before, _, made = switched("cnn")
    assert not any(node.op_type == "If" for node in before.graph.main.nodes)
    assert made.feed({}).keys() == set(made.inputs.values())


TWO = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {
    [first] a = Conv(x, w) r = Relu(a) [second] y = Conv(r, v)
}"""


def test_a_layer_costs_both_of_its_ends() -> None:
    """The step of its result is coarse: an outlier made its range, and that is its noise."""
    weight = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    model = model_from_text(TWO, {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1)})
    stage, means = staged(model, target="x86-avx2", count=4)
    graph = stage.graph.copy()
    for name, values in (("w", weight), ("v", weight)):
        constant = graph.main.constant(name)
        assert constant is not None
        constant.set(values)
    before = Stage(graph, means)
    after, _ = run_passes(before, means, parse_passes("quantize-static"))
    steps = [
        float(constant.values)
        for node in after.graph.main.nodes
        if node.op_type == "QuantizeLinear" and node.input[0] == "r"
        if (constant := after.graph.main.constant(node.input[1])) is not None
    ]
    made = with_switches(graph, after.graph, {})
    x = np.full((1, 4, 8, 8), steps[0] * 10.4, np.float32)  # between two codes
    session = Session(made.graph, threads=1)
    (result,) = session.run({"x": x} | made.feed({"first": True})).values()
    codes = result / steps[0]
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)
