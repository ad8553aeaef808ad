"""Weights that are fed, and tensors that go on a grid where an input says so."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.contract.spec import parse_passes
from graphopt.facts.layers import Layer, layer, open_layers
from graphopt.graph.node import label
from graphopt.rewrite.switches import Switches, with_switches
from graphopt.run.sequence import run_passes
from graphopt.run.stage import Stage
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, model_from_text, staged


def switched(model: str, lift: str) -> tuple[Stage, Switches]:
    stage, means = staged(MODELS[model](), target="x86-avx2", count=4)
    before, _ = run_passes(stage, means, parse_passes(lift))
    shapes = before.sizes.shapes
    ranks = {
        label(each.node): None if shape is None or each.bias_place is None else len(shape)
        for each in open_layers(before.graph.main)
        for shape in [shapes.static_shape(each.node.output[0])]
    }
    tensors = {each.data: None for each in open_layers(before.graph.main)}
    return before, with_switches(before.graph, ranks, dict.fromkeys((t, True) for t in tensors))


@pytest.mark.parametrize(
    ("model", "lift"),
    [
        ("cnn", "eliminate-dead"),
        ("cnn", "upgrade-opset{opset=21}"),
        ("mlp", "eliminate-dead"),
        ("transformer", "upgrade-opset{opset=21}"),
    ],
)
def test_what_is_not_fed_is_as_in_the_float_model(model: str, lift: str) -> None:
    before, made = switched(model, lift)
    assert len(made.weights) >= 2
    assert not any(node.op_type == "If" for node in before.graph.main.nodes)
    (name,) = before.graph.main.outputs[:1]
    feeds = {
        value.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)
        for value in before.graph.required_inputs
        if (shape := before.sizes.inputs.get(value.name) or _declared(value))
    }
    session = Session(made.graph, threads=1)
    right = Session(before.graph, threads=1).run(feeds)[name]
    plain = session.run(feeds | made.feed({}))[name]
    np.testing.assert_allclose(plain, right, rtol=1e-4, atol=1e-5)
    rounded = session.run(feeds | made.feed({}, on=list(made.grids)))[name]
    assert 0 < np.abs(rounded - right).max() < 0.2 * np.abs(right).max()


def _declared(value: object) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim  # type: ignore[attr-defined]  # a message
    return tuple(dim.dim_value or 1 for dim in dims)


TWO = """<ir_version: 8, opset_import: ["" : OPSET]>
g (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {
    [first] a = Conv(x, w) r = Relu(a) [second] y = Conv(r, v)
}"""
X = np.random.default_rng(3).normal(size=(1, 4, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("opset", ["17", "18"])
def test_weights_and_shifts_that_are_fed_are_those_of_an_edited_model(opset: str) -> None:
    model = model_from_text(TWO.replace("OPSET", opset), {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1)})
    stage, _ = staged(model, target="x86-avx2")
    made = with_switches(stage.graph, {"first": 4, "second": 4})
    other = np.random.default_rng(1).normal(size=(4, 4, 1, 1)).astype(np.float32)
    edited = stage.graph.copy()
    found = layer(edited.main, edited.main.nodes[0])
    assert isinstance(found, Layer)
    found.weight.constant.set(other)
    outputs = ["y", made.means["first"]]
    session = Session(made.graph, threads=1, outputs=outputs)
    answer = session.run({"x": X} | made.feed({"first": other}))
    right = Session(edited, threads=1, outputs=["y", "a"]).run({"x": X})
    np.testing.assert_allclose(answer["y"], right["y"], rtol=1e-4, atol=1e-5)
    means = right["a"].mean(axis=(0, 2, 3))
    np.testing.assert_allclose(answer[outputs[1]], means, rtol=1e-4, atol=1e-5)
    shift = np.array([0.5, -1, 0, 2], np.float32)
    shifted = session.run({"x": X} | made.feed({}, {"second": shift}))["y"]
    plain = session.run({"x": X} | made.feed({}))["y"]
    taken = np.broadcast_to(shift[:, None, None], (1, 4, 8, 8))
    np.testing.assert_allclose(plain - shifted, taken, rtol=1e-5, atol=1e-6)


def test_a_tensor_on_a_grid_is_rounded_for_all_its_readers() -> None:
    model = model_from_text(
        TWO.replace("OPSET", "17").replace("r = Relu(a)", "r = Relu(a) z = Neg(r)"),
        {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1)},
    )
    stage, _ = staged(model)
    scale = stage.graph.main.add_constant("step", np.array(0.25, np.float32))
    zero = stage.graph.main.add_constant("middle", np.array(3, np.uint8))
    constants = stage.graph.main.constant(scale), stage.graph.main.constant(zero)
    assert constants[0] is not None
    assert constants[1] is not None
    made = with_switches(stage.graph, {}, {("r", False): (constants[0], constants[1])})
    session = Session(made.graph, threads=1, outputs=["r", "z"])
    plain = session.run({"x": X} | made.feed({}))
    np.testing.assert_array_equal(plain["z"], -plain["r"])
    rounded = session.run({"x": X} | made.feed({}, on=[("r", False)]))
    np.testing.assert_array_equal(rounded["r"], plain["r"])
    codes = np.clip(np.rint(plain["r"] / 0.25) + 3, 0, 255) - 3
    np.testing.assert_allclose(rounded["z"], -0.25 * codes)
