from __future__ import annotations

import onnx.parser
import pytest
from onnx import ValueInfoProto

from graphopt.graph import io
from graphopt.graph.ports import compatible, described, fixed_batch


def port(declaration: str) -> ValueInfoProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({declaration}) => (float[1] y) {{}}'
    )
    declared: ValueInfoProto = model.graph.input[0]
    return declared


@pytest.mark.parametrize(
    ("a", "b", "fits"),
    [
        ("float[N, 3] x", "float[batch, 3] z", True),
        ("float[N, 3] x", "float[8, 3] x", True),
        ("float[4, 3] x", "float[8, 3] x", False),
        ("float[N, 3] x", "float[N, 4] x", False),
        ("float[N, 3] x", "float[N] x", False),
        ("float[N, 3] x", "double[N, 3] x", False),
        ("float[] x", "float[N, 3] x", True),
    ],
)
def test_one_array_for_both(a: str, b: str, fits: bool) -> None:
    assert compatible(port(a), port(b)) is fits
    assert compatible(port(b), port(a)) is fits


def test_a_port_in_words() -> None:
    assert described(port("int64[N, 3] x")) == "int64[?, 3]"


@pytest.mark.parametrize(("declared", "fixed"), [("float[N, 3]", False), ("float[1, 3]", True)])
def test_a_fixed_batch(declared: str, fixed: bool) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g ({declared} x) => ({declared} y) {{ y = Relu (x) }}"""
    assert fixed_batch(io.load(onnx.parser.parse_model(text))) is fixed
