"""What an edit does to answers of which some hold no numbers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from graphopt.graph.graph import Graph
from graphopt.passes.prune import PruneChannels
from graphopt.testing import apply_pass, model_from_text


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
