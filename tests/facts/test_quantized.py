from __future__ import annotations

import numpy as np
import pytest
from onnx import NodeProto, numpy_helper, parser

from graphopt.facts.quantized import (
    between_quantizers,
    dequantizer,
    integer_op,
    is_dequantized,
    moves_data,
    quantizers,
)
from graphopt.graph.graph import Graph, Scope

CONSTANTS = {
    "f": np.ones((4, 4), np.float32),
    "h": np.ones((4, 4), np.float16),
    "i": np.ones((4, 4), np.int8),
    "v": np.ones(4, np.float32),
    "s": np.float32(0.1),
    "z": np.uint8(0),
}


def scope_of(body: str) -> Scope:
    model = parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 21]> '
        f"g (float[N, 4] x, float[N, 4] x2) => (float[N, 4] y) {{ {body} }}"
    )
    for name, values in CONSTANTS.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return Graph(model).main


def last(scope: Scope) -> NodeProto:
    return scope.nodes[-1]


def test_dequantized_activations_and_constants() -> None:
    scope = scope_of(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) "
        "w = DequantizeLinear(i, s) y = MatMul(d, w)"
    )
    assert is_dequantized(scope, "d") and not is_dequantized(scope, "w")
    assert dequantizer(scope, "w") is not None and dequantizer(scope, "x") is None
    assert [node.output[0] for node in quantizers(scope, "x")] == ["q"]


QD = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) "


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (QD + "a = Sigmoid(d)", False),
        (QD + "a = Add(d, x2)", False),
        (QD + "a = Add(d, d)", True),
        ("a = Add(x, x2)", False),
    ],
)
def test_between_quantizers(body: str, expected: bool) -> None:
    scope = scope_of(body)
    assert between_quantizers(scope, last(scope)) is expected


def test_a_quantized_result_counts() -> None:
    scope = scope_of(QD + "a = Sigmoid(d) y = QuantizeLinear(a, s, z)")
    assert between_quantizers(scope, scope.nodes[2])
    assert not between_quantizers(scope, scope.nodes[1])


def test_kinds_of_operators() -> None:
    scope = scope_of("a = Transpose(x) b = MatMulInteger(x, x) y = Relu(x)")
    move, integer, other = scope.nodes
    assert moves_data(move) and not moves_data(other)
    assert integer_op(integer) and not integer_op(other)
