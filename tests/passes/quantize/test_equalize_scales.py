from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.errors import PassError
from graphopt.graph.graph import Graph
from graphopt.numerics.sqnr import sqnr_db
from graphopt.passes.quantize import EqualizeScales
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, model_from_text

ApplyPass = Callable[..., Any]

RNG = np.random.default_rng(8)
SPREAD = np.array([1, 30, 0.02, 3, 0.3, 8, 0.1, 1], np.float32)
DATA = {"x": RNG.normal(size=(12, 3, 8, 8)).astype(np.float32)}
EXACT_DB = 110.0  # float32 rounding of weights


def between(body: str, **constants: Any) -> onnx.ModelProto:
    """Two layers with uneven channels and something between them."""
    parts = {
        "w": RNG.normal(size=(8, 3, 3, 3)).astype(np.float32) * SPREAD.reshape(-1, 1, 1, 1),
        "b": SPREAD * 0.5,
        "u": RNG.normal(size=(4, 8, 1, 1)).astype(np.float32),
        **constants,
    }
    return model_from_text(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[n,3,8,8] x) => (float[n,4,h,l] y) {{
            h = Conv<pads = [1,1,1,1]>(x, w, b)  {body}  y = Conv(r, u)
        }}""",
        parts,
    )


def level(before: onnx.ModelProto, after: Graph, data: dict[str, Any]) -> float:
    right, found = (Session(g, threads=1).run(data)["y"] for g in (Graph(before), after))
    return sqnr_db(right, found) or np.inf


def spread(graph: Graph, name: str, axis: int) -> float:
    """Largest range of a channel over the smallest."""
    constant = graph.main.constant(name)
    assert constant is not None
    others = tuple(a for a in range(4) if a != axis)
    ranges = np.abs(constant.values).max(axis=others)
    return float(ranges.max() / ranges.min())


def test_both_weights_get_even_and_answers_stay(apply_pass: ApplyPass) -> None:
    model = between("r = Relu(h)", b=np.zeros(8, np.float32))
    graph, record = apply_pass(model, EqualizeScales())
    assert "of 8 channels divided by" in record.changes[0].what
    assert spread(Graph(model), "w", 0) > 500
    assert spread(graph, "w", 0) < 60
    own = graph.main.constant("w"), graph.main.constant("u")
    first, second = (each.values for each in own if each is not None)
    ranges = np.abs(first).max(axis=(1, 2, 3)), np.abs(second).max(axis=(0, 2, 3))
    shares = [each / each.max() for each in ranges]
    np.testing.assert_allclose(shares[0], shares[1], rtol=0.01)
    assert level(model, graph, DATA) > EXACT_DB


def test_biases_bound_what_a_channel_becomes_without_samples(apply_pass: ApplyPass) -> None:
    bias = np.full(8, 0.1, np.float32)
    bias[3] = 50
    model = between("r = Relu(h)", b=bias)
    graph, _ = apply_pass(model, EqualizeScales())
    constant = graph.main.constant("b")
    assert constant is not None
    assert np.abs(constant.values).max() <= 50 * (1 + 1e-6)
    assert level(model, graph, DATA) > EXACT_DB


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("r = PRelu(h, k)", {"k": np.linspace(0, 1, 8).reshape(8, 1, 1).astype(np.float32)}),
        ("i = Relu(h)  j = Conv<group = 8, pads = [1,1,1,1]>(i, d)  r = LeakyRelu(j)",
         {"d": RNG.normal(size=(8, 1, 3, 3)).astype(np.float32)}),
        ("i = Relu(h)  j = Conv(i, v)  k = Relu(j)  r = Add(i, k)",
         {"v": RNG.normal(size=(8, 8, 1, 1)).astype(np.float32)}),
        ("i = Add(h, c)  r = Relu(i)", {"c": np.array(0.7, np.float32)}),
        ("i = MaxPool<kernel_shape = [2,2]>(h)  j = AveragePool<kernel_shape = [2,2]>(i)"
         "  r = Pad(j, p)", {"p": np.array([0, 0, 1, 0, 0, 0, 0, 1])}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ranges", ["weights", "activations"])
def test_what_factors_go_through_stays_exact(
    apply_pass: ApplyPass, body: str, constants: dict[str, Any], ranges: Any
) -> None:
    model = between(body, **constants)
    graph, record = apply_pass(model, EqualizeScales(ranges=ranges), calibration=DATA)
    assert record.changes
    assert level(model, graph, {"x": RNG.normal(size=(4, 3, 8, 8)).astype(np.float32)}) > EXACT_DB


def test_channels_that_reach_a_clip_stay(apply_pass: ApplyPass) -> None:
    model = between("r = Clip(h, zero, six)", zero=np.array(0, np.float32),
                    six=np.array(6, np.float32))  # fmt: skip
    graph, _ = apply_pass(model, EqualizeScales(margin=1.2), calibration=DATA)
    before, after = (g.main.constant("w") for g in (Graph(model), graph))
    assert before is not None
    assert after is not None
    ratio = np.abs(before.values).max(axis=(1, 2, 3)) / np.abs(after.values).max(axis=(1, 2, 3))
    assert ratio[1] == ratio[5] == 1  # 30 and 8 times as large: they are cut
    assert ratio[2] < 0.5  # lifted, as the smallest of all
    assert level(model, graph, DATA) > 100


def test_without_samples_a_clip_keeps_its_layers(apply_pass: ApplyPass) -> None:
    model = between("r = Clip(h, zero, six)", zero=np.array(0, np.float32),
                    six=np.array(6, np.float32))  # fmt: skip
    _, record = apply_pass(model, EqualizeScales())
    assert record.status == "nothing to do"
    assert "clips at 6; samples would tell which channels stay below" in record.skipped[0].reason


def test_activations_get_even_if_asked(apply_pass: ApplyPass) -> None:
    model = between("r = Relu(h)")
    reached = []
    for item in (None, EqualizeScales(ranges="activations")):
        graph = Graph(model) if item is None else apply_pass(model, item, calibration=DATA)[0]
        values = Session(graph, threads=1, outputs=["r"]).run(DATA)["r"].max(axis=(0, 2, 3))
        reached.append(float(values.max() / np.median(values)))
    assert reached[1] < reached[0] / 3


def test_they_need_samples(apply_pass: ApplyPass) -> None:
    with pytest.raises(PassError, match="needs calibration samples"):
        apply_pass(between("r = Relu(h)"), EqualizeScales(ranges="activations"))


def test_what_the_options_leave_keeps_the_span(apply_pass: ApplyPass) -> None:
    _, record = apply_pass(between("r = Relu(h)"), EqualizeScales(exclude=("first",)))
    assert "left alone by the options" in record.skipped[0].reason


def test_integers_are_refused(apply_pass: ApplyPass) -> None:
    with pytest.raises(PassError, match="quantized already"):
        apply_pass(MODELS["quantized"](), EqualizeScales())
