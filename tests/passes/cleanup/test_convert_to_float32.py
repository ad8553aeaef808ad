"""``convert-to-float32``: what it converts, what it leaves alone, and what that opens."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from graphopt.contract.spec import parse_passes
from graphopt.graph import io
from graphopt.passes.cleanup import ConvertToFloat32
from graphopt.testing import MODELS, apply_pass, apply_passes, model_from_text
from graphopt.testing.text import random_weight

W = random_weight((64, 64), np.random.default_rng(1))
HEAD = '<ir_version: 10, opset_import: ["" : 19, "own" : 1]> g'


def model(text: str, dtype: str = "float16") -> onnx.ModelProto:
    return model_from_text(f"{HEAD} {text}", {"w": W.astype(dtype)})


def test_shape_arithmetic_in_double_stays_beside_a_layer_in_double() -> None:
    made = model(
        "(double[N, 64] x) => (double[N, 64] y, int64[2] half) {"
        " s = Shape(x) d = Cast<to = 11>(s) r = Sqrt(d) half = Cast<to = 7>(r) y = MatMul(x, w) }",
        "float64",
    )
    graph, record = apply_pass(ConvertToFloat32(), made)
    assert record.status == "done"
    kept = [node for node in graph.main.nodes if node.op_type in ("Shape", "Sqrt", "Cast")]
    assert [node.output[0] for node in kept] == ["x_float32", "s", "d", "r", "half", "y"]
    assert kept[2].attribute[0].i == TensorProto.DOUBLE
    assert graph.main.initializers["w"].data_type == TensorProto.FLOAT


def test_all_of_bfloat16_is_converted_layer_or_not() -> None:
    made = model("(bfloat16[4] x) => (bfloat16[4] y) { a = Abs(x) y = Neg(a) }")
    graph, record = apply_pass(ConvertToFloat32(), made, judge=False)
    assert [node.op_type for node in graph.main.nodes] == ["Cast", "Abs", "Neg", "Cast"]
    assert record.status == "done"


LEFT = {
    "its layers compute in float32 already, or it has none": MODELS["cnn"](),
    "computes in float16: 'Filter(m)' (own:Filter) may take no float32": model(
        "(float16[4, 64] x) => (float16[4, 64] y) { m = own.Filter(x) y = MatMul(m, w) }"
    ),
}


@pytest.mark.parametrize("reason", LEFT)
def test_what_is_left_alone(reason: str) -> None:
    _, record = apply_pass(ConvertToFloat32(), LEFT[reason], judge=False, samples=None)
    assert record.status == "nothing to do"
    assert reason in [record.reason, *(skip.reason for skip in record.skipped)]


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("passes", ["static", "dynamic", "weights"])
def test_behind_it_every_int8_form_is_open(passes: str, dtype: str) -> None:
    kind = "double" if dtype == "float64" else dtype
    made = model(
        f"({kind}[N, 64] x) => ({kind}[N, 64] y) {{ m = MatMul(x, w) y = Relu(m) }}", dtype
    )
    options = "" if passes == "static" else "{min_size=0}"
    spec = f"convert-to-float32,quantize-{passes}{options}"
    graph, records = apply_passes(parse_passes(spec), made, target="x86-vnni")
    assert [record.status for record in records] == ["done"] * len(records)
    quality = records[-1].sqnr_db
    assert quality is not None and quality > 30
    assert io.size(graph) < 0.9 * len(made.SerializeToString())
    ports = [*graph.main.proto.input, *graph.main.proto.output]
    types = {value.type.tensor_type.elem_type for value in ports}
    assert types == {onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}
