from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.analysis.channel_spans import Span, channel_spans
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.testing import model_from_text

WEIGHTS: dict[str, Any] = {
    "w": (4, 3, 3, 3),
    "v": (4, 4, 1, 1),
    "u": (5, 4, 1, 1),
    "d": (4, 1, 3, 3),
    "m": (4, 6),
    "k": np.full((4, 1, 1), 0.5, np.float32),
    "zero": np.array(0, np.float32),
    "six": np.array(6, np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "minus": np.array(-1, np.float32),
}


def spans(body: str, outputs: str = "float[n,c,h,l] y") -> list[Span]:
    read = {
        name: value for name, value in WEIGHTS.items() if f"{name})" in body or f"{name}," in body
    }
    graph = Graph(
        model_from_text(
            f"""<ir_version: 8, opset_import: ["" : 17]>
            g (float[n,3,9,9] x) => ({outputs}) {{ {body} }}""",
            read,
        )
    )
    return channel_spans(graph, infer(graph))


@pytest.mark.parametrize(
    "between",
    [
        "r = Relu(h)",
        "r = LeakyRelu(h)",
        "r = PRelu(h, k)",
        "r = MaxPool<kernel_shape = [2,2]>(h)",
        "r = AveragePool<kernel_shape = [2,2]>(h)",
        "r = GlobalAveragePool(h)",
        "r = Pad(h, pads)",
        "r = Identity(h)",
        "i = Mul(h, k)  r = Relu(i)",
        "i = Add(h, k)  r = Relu(i)",
        "r = Mul(k, h)",
    ],
)
def test_factors_go_through(between: str) -> None:
    (span, last) = spans(f"h = Conv(x, w)  {between}  y = Conv(r, u)")
    assert span.reason == ""
    assert [each.weight.constant.name for each in span.makers] == ["w"]
    assert [each.weight.constant.name for each in span.takers] == ["u"]
    assert set(span.tensors.values()) == {1}
    assert last.reason == "'y' is an output of the model"


def test_depthwise_layers_take_and_make() -> None:
    first, second, _ = spans("h = Conv(x, w)  i = Conv<group = 4>(h, d)  y = Conv(i, u)")
    assert [each.weight.constant.name for each in first.takers] == ["d"]
    assert [each.weight.constant.name for each in second.makers] == ["d"]


def test_a_residual_sum_is_one_span() -> None:
    span, _ = spans(
        "h = Conv(x, w)  r = Relu(h)  i = Conv(r, v)  s = Add(i, r)  t = Relu(s)  y = Conv(t, u)"
    )
    assert sorted(each.weight.constant.name for each in span.makers) == ["v", "w"]
    assert sorted(each.weight.constant.name for each in span.takers) == ["u", "v"]
    assert span.reason == ""


def test_a_clip_is_noted_with_its_bound() -> None:
    span, _ = spans("h = Conv(x, w)  c = Clip(h, zero, six)  y = Conv(c, u)")
    (bound,) = span.bounds
    assert (bound.tensor, bound.axis, bound.high) == ("c", 1, 6.0)
    free, _ = spans("h = Conv(x, w)  c = Clip(h, zero)  y = Conv(c, u)")
    assert free.bounds == []


def test_views_keep_the_channels() -> None:
    span, _ = spans(
        "h = Conv(x, w)  p = GlobalAveragePool(h)  f = Flatten(p)  y = MatMul(f, m)",
        "float[n,6] y",
    )
    assert (span.reason, span.tensors["f"]) == ("", 1)
    assert [each.node.op_type for each in span.takers] == ["MatMul"]


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        (
            "h = Conv(x, w)  r = Sigmoid(h)  y = Conv(r, u)",
            "",
            "Sigmoid(r): Sigmoid is no function",
        ),
        ("h = Conv(x, w)  r = Clip(h, minus, six)  y = Conv(r, u)", "", "Clip(r): it clips at -1"),
        ("h = Conv(x, w)  r = Mul(h, h)  y = Conv(r, u)", "", "Mul(r): it multiplies channels"),
        ("h = Conv(x, w)  r = Relu(h)  y = Conv(r, u)", ", float[a,b,e,f] r", "'r' is an output"),
        ("h = Conv(x, w)  r = Flatten(h)  y = Flatten(r)", "float", "Flatten(r): Flatten is no"),
        ("h = Conv(x, w)  r = Softmax<axis = 1>(h)  y = Conv(r, u)", "", "Softmax(r): Softmax is"),
    ],
)
def test_what_keeps_a_span_is_told(body: str, outputs: str, reason: str) -> None:
    shown = "float[n,q] y" if outputs == "float" else f"float[n,c,h,l] y{outputs}"
    span = spans(body, shown)[0]
    assert span.reason.startswith(reason)
