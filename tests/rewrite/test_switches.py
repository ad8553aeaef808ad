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
from graphopt.testing import MODELS, staged


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
