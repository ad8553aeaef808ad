from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

import graphopt
from graphopt.numerics.sqnr import sqnr_db
from graphopt.passes.quantize import ConvertBfloat16
from graphopt.testing import model_from_text

ApplyPass = Callable[..., Any]

DATA = {"x": np.random.default_rng(3).normal(size=(16, 16)).astype(np.float32)}
CHAIN = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n,16] x) => (float[n,16] y) { h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, v) }"""


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def test_what_is_told_is_what_is_left_where_all_is_rounded(apply_pass: ApplyPass) -> None:
    """onnxruntime runs no such model; the figure of the pass rounds every tensor."""
    model = model_from_text(CHAIN, {"w": (16, 16), "v": (16, 16)})
    graph, record = apply_pass(model, ConvertBfloat16(), calibration=DATA)
    assert [node.op_type for node in graph.main.nodes] == [
        "Cast",
        "MatMul",
        "Relu",
        "MatMul",
        "Cast",
    ]
    types = {int(each.data_type) for each in graph.main.initializers.values()}
    assert types == {TensorProto.BFLOAT16}
    (told,) = [item.what for item in record.changes if item.node == "model"]
    left = float(told.split()[-5])
    assert 38 < left < 52  # 8 bits of mantissa: 50 dB a rounding
    first, last = (onnx.numpy_helper.to_array(each) for each in model.graph.initializer)
    hidden = rounded(np.maximum(rounded(rounded(DATA["x"]) @ rounded(first)), 0))
    found = rounded(hidden @ rounded(last))
    right = np.maximum(DATA["x"] @ first, 0) @ last
    expected = sqnr_db(right, found)
    assert expected == pytest.approx(left, abs=0.1)


def test_large_values_are_no_reason(apply_pass: ApplyPass) -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[n,16] x) => (float[n,16] y) { h = MatMul(x, w)  y = Mul(h, large) }""",
        {"w": (16, 16), "large": np.array(1e9, np.float32)},
    )
    graph, record = apply_pass(model, ConvertBfloat16(), calibration=DATA)
    assert not record.skipped
    assert len(graph.main.nodes) == 4


def test_convolutions_have_no_bfloat16_yet(apply_pass: ApplyPass) -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[n,4,4,1] x) => (float[n,4,4,1] y) { y = Conv(x, w) }""",
        {"w": (4, 4, 1, 1)},
    )
    data = {"x": DATA["x"].reshape(16, 4, 4, 1)}
    _, record = apply_pass(model, ConvertBfloat16(), calibration=data)
    assert record.status == "nothing to do"
    assert [item.reason for item in record.skipped] == [
        "ONNX defines Conv for no bfloat16 at opset 17"
    ]


def test_that_onnxruntime_ran_something_else_is_told() -> None:
    model = model_from_text(CHAIN, {"w": (16, 16), "v": (16, 16)})
    result = graphopt.optimize(model, ConvertBfloat16(), calibration=DATA)
    (told,) = [each for each in result.report.messages if "measured in float32" in each]
    assert "nothing rounded between" in told
    assert "MatMul" in told or "bfloat16" in told
