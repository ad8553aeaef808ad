from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.errors import PassError
from graphopt.graph.graph import Graph
from graphopt.numerics.sqnr import sqnr_db
from graphopt.passes.quantize import AbsorbBias
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

ApplyPass = Callable[..., Any]

RNG = np.random.default_rng(6)
DATA = {"x": RNG.normal(size=(16, 3, 6, 6)).astype(np.float32)}
EXACT_DB = 110.0
BIAS = np.array([4.0, -4.0, 0.0, 2.0], np.float32)
"""The first channel and the last one are always above zero."""


def between(body: str, last: str = "y = Conv(r, u)", **constants: Any) -> onnx.ModelProto:
    parts = {
        "w": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32) * 0.05,
        "b": BIAS,
        "u": RNG.normal(size=(5, 4, 1, 1)).astype(np.float32),
        **constants,
    }
    return model_from_text(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[n,3,6,6] x) => (float[n,c,h,l] y) {{ h = Conv(x, w, b)  {body}  {last} }}""",
        parts,
    )


def level(before: onnx.ModelProto, after: Graph) -> float:
    fresh = {"x": RNG.normal(size=(8, 3, 6, 6)).astype(np.float32) * 0.9}
    right, found = (Session(g, threads=1).run(fresh)["y"] for g in (Graph(before), after))
    return sqnr_db(right, found) or np.inf


def bias_of(graph: Graph, name: str) -> np.ndarray:
    constant = graph.main.constant(name)
    assert constant is not None
    values: np.ndarray = constant.values
    return values


@pytest.mark.parametrize(
    ("body", "last", "constants"),
    [
        ("r = Relu(h)", "y = Conv(r, u)", {}),
        ("r = LeakyRelu(h)", "y = Conv(r, u, v)", {"v": np.ones(5, np.float32)}),
        ("i = Relu(h)  r = MaxPool<kernel_shape = [2,2]>(i)", "y = Conv(r, u)", {}),
        ("r = Relu(h)", "y = Conv<group = 4>(r, d)", {"d": np.full((8, 1, 2, 2), 0.3, np.float32)}),
        ("r = Clip(h, zero, nine)", "y = Conv(r, u)",
         {"zero": np.array(0, np.float32), "nine": np.array(9, np.float32)}),
    ],
)  # fmt: skip
def test_what_a_channel_always_has_moves_on(
    apply_pass: ApplyPass, body: str, last: str, constants: dict[str, Any]
) -> None:
    model = between(body, last, **constants)
    graph, record = apply_pass(model, AbsorbBias(margin=0.3), calibration=DATA)
    assert "2 of 4 channels lowered by up to" in record.changes[0].what
    moved = BIAS - bias_of(graph, "b")
    assert moved[0] > moved[3] > 0.2
    assert moved[1] == moved[2] == 0
    assert level(model, graph) > EXACT_DB
    values = Session(graph, threads=1, outputs=["h"]).run(DATA)["h"].min(axis=(0, 2, 3))
    assert (values[moved > 0] > 0).all()


def test_the_margin_is_left(apply_pass: ApplyPass) -> None:
    model = between("r = Relu(h)")
    least = Session(Graph(model), threads=1, outputs=["h"]).run(DATA)["h"].min(axis=(0, 2, 3))
    moved = []
    for margin in (0.0, 0.5):
        graph, _ = apply_pass(model, AbsorbBias(margin=margin), calibration=DATA)
        moved.append(float((BIAS - bias_of(graph, "b"))[0]))
    assert moved[0] >= least[0] * (1 - 1e-5)  # of the samples some are held back
    assert 0 < moved[1] < 0.9 * moved[0]


@pytest.mark.parametrize(
    ("body", "last", "constants", "reason"),
    [
        ("r = Relu(h)", "y = Conv<pads = [1,1,1,1]>(r, u)", {}, "it pads with zeros"),
        ("r = Relu(h)", "y = ConvTranspose(r, t)",
         {"t": np.ones((4, 5, 2, 2), np.float32)}, "at its edges fewer inputs are summed"),
        ("r = MaxPool<kernel_shape = [2,2], pads = [1,1,1,1]>(h)", "y = Conv(r, u)", {},
         "MaxPool does not hand on a constant"),
        ("i = Conv(x, w2, b)  j = Add(h, i)  r = Relu(j)", "y = Conv(r, u)",
         {"w2": np.ones((4, 3, 3, 3), np.float32)}, "other values are added to what it makes"),
        ("r = Clip(h, zero, one)", "y = Conv(r, u)",
         {"zero": np.array(0, np.float32), "one": np.array(1, np.float32)},
         "no channel of it is always above zero"),
    ],
)  # fmt: skip
def test_what_stays_has_its_reason(
    apply_pass: ApplyPass, body: str, last: str, constants: dict[str, Any], reason: str
) -> None:
    _, record = apply_pass(between(body, last, **constants), AbsorbBias(), calibration=DATA)
    assert record.status == "nothing to do"
    assert any(reason in item.reason for item in record.skipped)


def test_it_needs_samples(apply_pass: ApplyPass) -> None:
    with pytest.raises(PassError, match="needs calibration samples"):
        apply_pass(between("r = Relu(h)"), AbsorbBias())
