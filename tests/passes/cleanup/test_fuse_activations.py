from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from graphopt.graph.graph import Graph
from graphopt.passes.cleanup import FuseActivations
from graphopt.run.record import PassRecord
from graphopt.runtime.optimized import optimize
from graphopt.testing import apply_pass, model_from_text, run_model

SCALARS = {
    name: np.array(value, np.float32)
    for name, value in {
        "zero": 0, "half": 0.5, "one": 1, "two": 2, "three": 3, "six": 6, "sixth": 1 / 6,
    }.items()
}  # fmt: skip


def fused(
    body: str, opset: int = 17, shape: str = "N,8", **more: Any
) -> tuple[list[str], Graph, PassRecord]:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[{shape}] x) => (float y)'
    words = set(re.findall(r"\w+", body))
    weights = {name: value for name, value in SCALARS.items() if name in words}
    model = model_from_text(f"{text} {{ {body} }}", {**weights, **more})
    graph, record = apply_pass(FuseActivations(), model)
    expected, answer = run_model(model)["y"], run_model(graph)["y"]
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)
    return [node.op_type for node in graph.main.nodes], graph, record


GATE = "a = Add (x, three)  c = Clip (a, zero, six)"
FUSED = {
    "product, then Div": (f"{GATE}  m = Mul (x, c)  y = Div (m, six)", ["HardSwish"]),
    "product, then Mul": (f"{GATE}  m = Mul (c, x)  y = Mul (sixth, m)", ["HardSwish"]),
    "Div, then product": (f"{GATE}  s = Div (c, six)  y = Mul (x, s)", ["HardSwish"]),
    "Mul, then product": (f"{GATE}  s = Mul (c, sixth)  y = Mul (s, x)", ["HardSwish"]),
    "of unit height": (
        "m = Mul (x, sixth)  a = Add (half, m)  c = Clip (a, zero, one)  y = Mul (x, c)",
        ["HardSwish"],
    ),
    "a hard sigmoid": (f"{GATE}  y = Div (c, six)", ["HardSigmoid"]),
    "with another slope": (
        "d = Div (x, two)  a = Sub (d, half)  c = Clip (a, zero, two)  y = Mul (c, half)",
        ["HardSigmoid"],
    ),
    "times something else": (
        f"{GATE}  s = Div (c, six)  t = Sin (x)  y = Mul (t, s)",
        ["HardSigmoid", "Sin", "Mul"],
    ),
    "other slope times x": (
        "a = Add (x, one)  c = Clip (a, zero, two)  s = Div (c, two)  y = Mul (x, s)",
        ["HardSigmoid", "Mul"],
    ),
}


@pytest.mark.parametrize("case", FUSED)
def test_one_operator_in_place_of_the_chain(case: str) -> None:
    body, ops = FUSED[case]
    found, graph, _ = fused(body)
    assert found == ops
    assert not graph.main.initializers.keys() & {"three", "sixth"}


def test_before_hard_swish_was_an_operator() -> None:
    body, _ = FUSED["product, then Div"]
    assert fused(body, 13)[0] == ["HardSigmoid", "Mul"]
    old = "a = Add (x, three)  c = Clip <min = 0.0, max = 6.0> (a)  y = Div (c, six)"
    assert fused(old, 10)[0] == ["HardSigmoid"]


STAYS = {
    "plain Clip": "y = Clip (x, zero, six)",
    "another divisor": f"{GATE}  y = Div (c, three)",
    "no scaling": f"{GATE}  y = Relu (c)",
    "read twice": f"{GATE}  s = Div (c, six)  y = Add (s, c)",
    "lower bound": "a = Add (x, three)  c = Clip (a, one, six)  y = Div (c, six)",
    "open above": "a = Add (x, three)  c = Clip (a, zero)  y = Div (c, six)",
    "falling": "a = Sub (three, x)  c = Clip (a, zero, six)  y = Div (c, six)",
    "divided by it": f"{GATE}  y = Div (six, c)",
    "a value a channel": "a = Add (x, many)  c = Clip (a, zero, six)  y = Div (c, six)",
    "an axis more": "a = Add (x, wide)  c = Clip (a, zero, six)  y = Div (c, six)",
}


@pytest.mark.parametrize("case", STAYS)
def test_what_is_something_else_stays(case: str) -> None:
    more: Any = {"many": np.arange(8, dtype=np.float32), "wide": np.full((1, 1, 1), 3, np.float32)}
    _, _, record = fused(STAYS[case], **more)
    assert record.status == "nothing to do"


def test_inside_a_body() -> None:
    body = f"""k = Constant <value = int64 {{2}}> ()  go = Constant <value = bool {{1}}> ()
      y = Loop (k, go, x) <body = b (int64 i, bool on, float[2,8] s) => (bool off, float[2,8] t)
        {{ off = Identity (on)  {GATE.replace("(x", "(s")}  m = Mul (s, c)  t = Div (m, six) }}>"""
    _, graph, _ = fused(body, shape="2,8")
    inside = [node.op_type for scope in graph.scopes() for node in scope.nodes]
    assert inside == ["Constant", "Constant", "Loop", "Identity", "HardSwish"]


GELU = "d = Div (x, root)  e = Erf (d)  s = Add (e, one)"


@pytest.mark.parametrize(
    "tail", ["h = Mul (half, s)  y = Mul (x, h)", "h = Mul (s, half)  y = Mul (h, x)"]
)
def test_a_gelu_of_another_order_is_one_that_onnxruntime_fuses(tail: str) -> None:
    root = np.array(2**0.5, np.float32)
    _, graph, record = fused(f"{GELU}  {tail}", root=root)
    assert [edit.what for edit in record.changes] == [
        "Gelu in an order of factors that onnxruntime fuses"
    ]
    operators = {node.op_type for node in optimize(graph, threads=1).node}
    assert "Gelu" in operators
    assert "Erf" not in operators
    _, again = apply_pass(FuseActivations(), graph.to_model())
    assert again.status == "nothing to do"


OTHER_PRODUCTS = {
    "known already": "m = Mul (x, s)  y = Mul (m, half)",
    "of another number": "h = Mul (two, s)  y = Mul (x, h)",
    "of another tensor": "t = Sin (x)  h = Mul (half, s)  y = Mul (t, h)",
    "read elsewhere": "h = Mul (half, s)  m = Mul (x, h)  y = Add (m, h)",
    "a square": "h = Mul (half, s)  y = Mul (h, h)",
}


@pytest.mark.parametrize("name", OTHER_PRODUCTS)
def test_other_products_with_erf_stay(name: str) -> None:
    root = np.array(2**0.5, np.float32)
    _, _, record = fused(f"{GELU}  {OTHER_PRODUCTS[name]}", root=root)
    assert record.status == "nothing to do"
