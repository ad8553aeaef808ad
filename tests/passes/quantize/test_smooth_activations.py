from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.errors import PassError
from graphopt.graph.graph import Graph
from graphopt.numerics import sqnr
from graphopt.passes.quantize import QuantizeDynamic, SmoothActivations
from graphopt.runtime.session import Session

ApplyPass = Callable[..., Any]
Floats = NDArray[np.float32]

RNG = np.random.default_rng(11)
CHANNELS = 64
LOSSLESS_DB = 110.0  # float32 rounding of weights and constants
LOUD = (3, 17)
"""Channels 30 times as large as the others."""


def loudness() -> Floats:
    sizes = np.ones(CHANNELS, np.float32)
    sizes[list(LOUD)] = 30
    return sizes


DATA = {"x": (RNG.normal(size=(40, 8, CHANNELS))).astype(np.float32)}

PARTS = {
    "gamma": loudness(),
    "beta": (loudness() * 0.1).astype(np.float32),
    "w": (RNG.normal(size=(CHANNELS, 48)) / 8).astype(np.float32),
    "v": (RNG.normal(size=(CHANNELS, CHANNELS)) / 8 * loudness()).astype(np.float32),
    "even": (RNG.normal(size=(CHANNELS, CHANNELS)) / 16).astype(np.float32),
    "rows": np.array([-1, 8, CHANNELS]),
    "half": np.array(30.0, np.float32),
    "narrow": (RNG.normal(size=(CHANNELS, CHANNELS // 2)) * loudness()[: CHANNELS // 2]).astype(
        np.float32
    ),
    "pairs": np.array([0, -1, CHANNELS]),
}


def filled(body: str, outputs: str = "float[a, 8, 48] y") -> onnx.ModelProto:
    """A model from its nodes, with those of ``PARTS`` that they read."""
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        agraph (float[a, 8, {CHANNELS}] x) => ({outputs}) {{ {body} }}
        """
    )
    read = {name for node in model.graph.node for name in node.input}
    for name in PARTS.keys() & read:
        model.graph.initializer.append(onnx.numpy_helper.from_array(PARTS[name], name))
    return model


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for scope in graph.scopes() for node in scope.nodes)


def quality(before: onnx.ModelProto, after: Graph) -> float:
    expected, actual = Session(Graph(before)).run(DATA), Session(after).run(DATA)
    values = [sqnr.sqnr_db(expected[name], actual[name]) for name in expected]
    return min(value for value in values if value is not None)


FOLDED = {
    "normalization": "h = LayerNormalization(x, gamma, beta) y = MatMul(h, w)",
    "no bias": "h = LayerNormalization(x, gamma) y = MatMul(h, w)",
    "scale and shift": "g = Mul(x, gamma) h = Add(g, beta) y = MatMul(h, w)",
    "relu": "g = Mul(x, gamma) h = Relu(g) y = MatMul(h, w)",
    "reshape": "h4 = LayerNormalization(x, gamma, beta) h = Reshape(h4, rows) y = MatMul(h, w)",
    "shape": "h = LayerNormalization(x, gamma) y = MatMul(h, w) s = Shape(h) z = Reshape(x, s)",
    "linear": "h = MatMul(x, v) y = MatMul(h, w)",
    "linear and bias": "g = MatMul(x, v) h = Add(g, beta) y = MatMul(h, w)",
    "RMS normalization of a sum": """
        h = com.microsoft.SkipSimplifiedLayerNormalization(x, x, gamma) y = MatMul(h, w)""",
    "layer normalization of a sum": """
        h = com.microsoft.SkipLayerNormalization(x, x, gamma, beta) y = MatMul(h, w)""",
    "RMS normalization in parts": """
        s = Mul(x, x) m = ReduceMean<axes=[-1]>(s) r = Sqrt(m) n = Div(x, r)
        h = Mul(gamma, n) y = MatMul(h, w)""",
    "gated unit": """
        g = MatMul(x, even) o = Sigmoid(g) a = Mul(g, o) b = MatMul(x, v)
        h = Mul(a, b) y = MatMul(h, w)""",
    "gate behind": """
        a = MatMul(x, v) g = MatMul(x, even) b = Sigmoid(g) h = Mul(a, b) y = MatMul(h, w)""",
    "quotient": """
        a = MatMul(x, v) g = MatMul(x, even) b = Exp(g) h = Div(a, b) y = MatMul(h, w)""",
}


@pytest.mark.parametrize("layer", FOLDED)
def test_factors_go_into_what_comes_before(apply_pass: ApplyPass, layer: str) -> None:
    second = f", float[a, 8, {CHANNELS}] z" if layer == "shape" else ""
    model = filled(FOLDED[layer], f"float[a, 8, 48] y{second}")
    graph, record = apply_pass(model, SmoothActivations(nodes=("MatMul(y)",)), calibration=DATA)
    assert [edit.node for edit in record.changes] == ["MatMul(y)"]
    assert "2 of 64 channels of h divided in the layer before" in record.changes[0].what
    assert operators(graph) == operators(Graph(model))
    assert quality(model, graph) > LOSSLESS_DB
    plain, _ = apply_pass(model, QuantizeDynamic(nodes=("MatMul(y)",)))
    smooth, _ = apply_pass(graph.to_model(), QuantizeDynamic(nodes=("MatMul(y)",)))
    assert quality(model, smooth) > quality(model, plain) + 6


def test_factors_go_into_an_rms_normalization(apply_pass: ApplyPass) -> None:
    model = filled("h = RMSNormalization(x, gamma) y = MatMul(h, w)")
    model.opset_import[0].version = 23
    graph, record = apply_pass(model, SmoothActivations(), calibration=DATA)
    assert "divided in the layer before" in record.changes[0].what
    assert operators(graph) == operators(Graph(model))
    assert quality(model, graph) > LOSSLESS_DB


OTHER_READERS = {
    "residual": ("h = LayerNormalization(x, gamma, beta) y = MatMul(h, w) z = Relu(h)", "z"),
    "an output": ("h = LayerNormalization(x, gamma, beta) y = MatMul(h, w)", "h"),
    "a product of two": ("r = Mul(x, gamma) h = Mul(r, x) y = MatMul(h, w) z = Relu(r)", "z"),
    "a scalar factor": ("g = Mul(x, gamma) h = Mul(g, half) y = MatMul(h, w)", ""),
    "fewer columns": (
        "g = MatMul(x, narrow) h = Reshape(g, pairs) y = MatMul(h, w) z = Relu(x)",
        "z",
    ),
}


@pytest.mark.parametrize("layer", OTHER_READERS)
def test_else_a_mul_is_put_in_front(apply_pass: ApplyPass, layer: str) -> None:
    body, second = OTHER_READERS[layer]
    outputs = "float[a, 8, 48] y" + (f", float[a, 8, {CHANNELS}] {second}" if second else "")
    model = filled(body, outputs)
    graph, record = apply_pass(model, SmoothActivations(), calibration=DATA)
    assert "by a Mul in front" in record.changes[0].what
    assert operators(graph)["Mul"] == operators(Graph(model))["Mul"] + 1
    assert quality(model, graph) > LOSSLESS_DB
    _, record = apply_pass(model, SmoothActivations(min_gain=60), calibration=DATA)
    assert "min_gain is 60" in record.skipped[0].reason


def test_layers_that_read_one_tensor_are_smoothed_together(apply_pass: ApplyPass) -> None:
    model = filled(
        "h = LayerNormalization(x, gamma, beta) y = MatMul(h, w) z = MatMul(h, v)",
        f"float[a, 8, 48] y, float[a, 8, {CHANNELS}] z",
    )
    graph, record = apply_pass(model, SmoothActivations(), calibration=DATA)
    assert len(record.changes) == 2
    assert operators(graph) == operators(Graph(model))
    assert quality(model, graph) > LOSSLESS_DB


def test_even_channels_are_left_alone(apply_pass: ApplyPass) -> None:
    _, record = apply_pass(filled("y = MatMul(x, w)"), SmoothActivations(), calibration=DATA)
    assert record.status == "nothing to do"
    assert "would gain" in record.skipped[0].reason


def test_a_weight_with_readers_elsewhere_stays(apply_pass: ApplyPass) -> None:
    model = filled(
        "h = LayerNormalization(x, gamma, beta) y = MatMul(h, w) z = MatMul(x, w)",
        "float[a, 8, 48] y, float[a, 8, 48] z",
    )
    _, record = apply_pass(model, SmoothActivations(), calibration=DATA)
    assert record.status == "nothing to do"
    assert {skip.reason for skip in record.skipped} == {"its weight is read elsewhere too"}


def test_min_size_and_patterns(apply_pass: ApplyPass) -> None:
    model = filled(FOLDED["normalization"])
    _, record = apply_pass(model, SmoothActivations(min_size=10_000), calibration=DATA)
    assert "min_size=10000" in record.skipped[0].reason
    _, record = apply_pass(model, SmoothActivations(exclude=("MatMul",)), calibration=DATA)
    assert "exclude" in record.skipped[0].reason


def test_bodies_are_left_alone(apply_pass: ApplyPass) -> None:
    model = filled(
        """
        s = ReduceMax<keepdims=0>(x)
        c = Cast<to=9>(s)
        y = If (c) <
            then_branch = g1 () => (float[a, 8, 48] p) { p = MatMul(x, w) },
            else_branch = g2 () => (float[a, 8, 48] q) { q = MatMul(x, w) }
        >
        """
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(PARTS["w"], "w"))
    _, record = apply_pass(model, SmoothActivations(), calibration=DATA)
    assert len(record.skipped) == 2
    assert all("inside the body" in skip.reason for skip in record.skipped)


def test_samples_are_needed(apply_pass: ApplyPass) -> None:
    with pytest.raises(PassError, match="calibration samples"):
        apply_pass(filled(FOLDED["normalization"]), SmoothActivations())
