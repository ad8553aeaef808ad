"""What an edit does to answers of which some hold no numbers."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphopt.contract.passes import Context
from graphopt.facts.shapes import infer
from graphopt.families.answer_damage import AnswerDamage
from graphopt.graph.graph import Graph
from graphopt.observe.walk import Walk
from graphopt.passes.prune import PruneChannels
from graphopt.testing import apply_pass, model_from_text
from tests.observe.stub import Stub


def _named(*, scores: bool) -> onnx.ModelProto:
    """Two layers, and the name of the largest score as a text."""
    rng = np.random.default_rng(0)
    text = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
    g (float[N, 8] x) => (float[N, 3] y) {
      h = Gemm (x, W1, B1)  r = Relu (h)  y = Gemm (r, W2, B2)
    }"""
    shapes = {"W1": (8, 16), "B1": (16,), "W2": (16, 3), "B2": (3,)}
    weights = {n: rng.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
    model = model_from_text(text, weights)
    nodes = [
        helper.make_node("ArgMax", ["y"], ["best"], axis=1, keepdims=0),
        helper.make_node(
            "LabelEncoder",
            ["best"],
            ["label"],
            domain="ai.onnx.ml",
            keys_int64s=[0, 1, 2],
            values_strings=["a", "b", "c"],
        ),
    ]
    model.graph.node.extend(nodes)
    if not scores:
        del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]))
    return model


def test_texts_say_nothing_of_how_far_answers_are_apart() -> None:
    graph, record = apply_pass(PruneChannels(macs=0.6, round_to=1), _named(scores=True))
    assert [edit.node for edit in record.changes] == ["Gemm(h)"]
    weight = graph.main.constant("W1")
    assert weight is not None
    assert weight.shape[1] < 16


def test_where_all_are_texts_it_is_refused() -> None:
    graph, record = apply_pass(PruneChannels(macs=0.6, round_to=1), _named(scores=False))
    assert record.status == "refused"
    assert record.reason == "no output holds numbers, by which answers could be told apart"
    assert isinstance(graph, Graph)


class _Around:
    """As much of a context as is asked for."""

    training = None

    def __init__(self, graph: Graph) -> None:
        rng = np.random.default_rng(1)
        self.samples = Stub(
            [({"x": rng.normal(size=(2, 8)).astype(np.float32)}, 2) for _ in range(3)]
        )
        self.shapes, self.walks = infer(graph), 0

    def walk(self, graph: Graph, samples: int) -> Walk:
        self.walks += 1
        return Walk(graph, self.samples, threads=1)


def test_edits_in_any_order_are_measured_as_if_each_were_run_from_the_start() -> None:
    graph = Graph(_named(scores=True))
    around: Any = _Around(graph)
    damage = AnswerDamage(graph, cast(Context, around), 6)

    def edited(name: str) -> Graph:
        copy = graph.copy()
        constant = copy.main.constant(name)
        assert constant is not None
        constant.set(constant.values * 0.5)
        return copy

    names = ("B1", "W1", "W2", "W1", "B2")
    found = {name: damage.of(edited(name)) for name in names}
    walks = around.walks
    assert damage.of(graph.copy()) == 0
    for name, value in found.items():
        alone = AnswerDamage(graph, cast(Context, _Around(graph)), 6)
        assert value == pytest.approx(alone.of(edited(name)), rel=1e-5)
        assert value > 0
    assert walks == 3  # for the answers, to go along, and once more for W1 behind W2
