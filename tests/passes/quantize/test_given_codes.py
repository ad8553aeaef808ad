"""Files whose weights another tool has stored as codes, while their activations are float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.analysis.audit import audit
from graphopt.contract.passes import Pass
from graphopt.errors import PassError
from graphopt.graph.graph import Graph
from graphopt.numerics import sqnr
from graphopt.passes.quantize import QuantizeDynamic, QuantizeStatic, QuantizeWeights
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

ApplyPass = Callable[..., Any]
Values = dict[str, NDArray[Any] | tuple[int, ...]]

EXACT_DB, CLOSE_DB = 100.0, 25.0
RNG = np.random.default_rng(11)
CONV = np.clip(RNG.normal(size=(16, 8, 3, 3)) * 45, -126, 127).round().astype(np.int8)
MATRIX = np.clip(RNG.normal(size=(32, 48)) * 45, -126, 127).round().astype(np.int8)
IMAGES = {"x": RNG.normal(size=(16, 8, 6, 6)).astype(np.float32)}
ROWS = {"x": RNG.normal(size=(16, 32)).astype(np.float32)}


def scales(count: int) -> NDArray[np.float32]:
    return RNG.uniform(0.001, 0.02, size=count).astype(np.float32)


def conv(**values: NDArray[Any]) -> onnx.ModelProto:
    """A Conv behind a DequantizeLinear along its output channels, and a Relu."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 8, 6, 6] x) => (float[n, 16, 6, 6] y) {
      w = DequantizeLinear <axis = 0> (q, s, z)
      c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
      y = Relu(c)
    }"""
    given: Values = {"q": CONV, "s": scales(16), "z": np.zeros(16, np.int8), "b": scales(16)}
    return model_from_text(text, {**given, **values})


def matmul(body: str, **values: NDArray[Any]) -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 32] x) => (float[n, 48] y) {{ {body} }}"""
    return model_from_text(text, values)


PLAIN = "w = DequantizeLinear <axis = 1> (q, s) y = MatMul(x, w)"
TURNED = "w = DequantizeLinear <axis = 0> (q, s) t = Transpose <perm = [1, 0]> (w) y = MatMul(x, t)"
CAST = "c = Cast <to = 1> (q) w = Mul(c, s) y = MatMul(x, w)"
GEMM = "w = DequantizeLinear <axis = 1> (q, s) y = Gemm <alpha = 0.5> (x, w)"


def codes(graph: Graph) -> list[NDArray[Any]]:
    """Constants of codes with more than one axis."""
    held = [graph.read(tensor) for tensor in graph.main.initializers.values()]
    return [each for each in held if each.ndim > 1 and each.dtype.kind in "iu"]


def close(before: onnx.ModelProto, after: Graph, feeds: dict[str, Any], least: float) -> bool:
    expected, actual = Session(Graph(before)).run(feeds)["y"], Session(after).run(feeds)["y"]
    found = sqnr.sqnr_db(expected, actual)
    return found is not None and found > least


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph.main.nodes)


def test_static_uses_the_codes_as_they_are(apply_pass: ApplyPass) -> None:
    model = conv()
    graph, record = apply_pass(model, QuantizeStatic(), target="x86-vnni", calibration=IMAGES)
    assert record.status == "done"
    (kept,) = codes(graph)
    assert np.array_equal(kept, CONV)
    assert "q" in graph.main.initializers  # not a copy of it
    assert not audit(graph).float_
    assert operators(graph)["DequantizeLinear"] == 4
    assert close(model, graph, IMAGES, CLOSE_DB)


@pytest.mark.parametrize("point", [128, 120])
def test_unsigned_codes(apply_pass: ApplyPass, point: int) -> None:
    """Those around 128 become signed, which is exact; others stay."""
    unsigned = (CONV.astype(np.int16) // 2 + point).astype(np.uint8)
    model = conv(q=unsigned, z=np.full(16, point, np.uint8))
    graph, _ = apply_pass(model, QuantizeStatic(), target="x86-vnni", calibration=IMAGES)
    (kept,) = codes(graph)
    assert kept.dtype == (np.int8 if point == 128 else np.uint8)
    assert np.array_equal(kept, CONV.astype(int) // 2 + (0 if point == 128 else point))
    assert not audit(graph).float_
    assert close(model, graph, IMAGES, CLOSE_DB)


def test_codes_that_would_saturate_get_larger_scales(apply_pass: ApplyPass) -> None:
    full = np.full_like(CONV, 127)
    graph, record = apply_pass(
        conv(q=full), QuantizeStatic(), target="x86-avx2", calibration=IMAGES
    )
    (kept,) = codes(graph)
    assert np.abs(kept).max() <= 64
    assert "16 channel scales raised" in record.changes[0].what


def test_a_layer_that_is_to_stay_float_is_expanded(apply_pass: ApplyPass) -> None:
    """Between integer neighbours onnxruntime would compute it on integers."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 8, 6, 6] x) => (float[n, 8, 6, 6] y) {
      a = Conv(x, u) d = DequantizeLinear <axis = 0> (q, s) b = Conv(a, d) y = Conv(b, v)
    }"""
    square = CONV[:8, :, :1, :1].copy()
    given: Values = {"u": (8, 8, 1, 1), "v": (8, 8, 1, 1), "q": square, "s": scales(8)}
    model = model_from_text(text, given)
    item = QuantizeStatic(exclude=("Conv(b)",))
    graph, _ = apply_pass(model, item, target="x86-vnni", calibration=IMAGES)
    assert [entry.node for entry in audit(graph).float_] == ["Conv(b)"]
    assert close(model, graph, IMAGES, CLOSE_DB)


@pytest.mark.parametrize(("body", "axis"), [(PLAIN, 1), (TURNED, 0), (CAST, 1), (GEMM, 1)])
def test_dynamic_uses_the_codes_as_they_are(apply_pass: ApplyPass, body: str, axis: int) -> None:
    held = MATRIX.T.copy() if body == TURNED else MATRIX
    model = matmul(body, q=held, s=scales(48))
    graph, record = apply_pass(model, QuantizeDynamic(), target="x86-vnni")
    assert [edit.what for edit in record.changes] == [
        "int8 weight, dynamic uint8 activation; its codes are those of the file"
    ]
    (kept,) = codes(graph)
    assert np.array_equal(kept, MATRIX)
    assert operators(graph)["MatMulInteger"] == 1
    assert not {"Transpose", "DequantizeLinear"} & set(operators(graph))
    assert close(model, graph, ROWS, CLOSE_DB)


@pytest.mark.parametrize("item", [QuantizeDynamic(), QuantizeWeights(), QuantizeStatic()])
def test_integer_layers_are_left_alone(apply_pass: ApplyPass, item: Pass) -> None:
    graph, _ = apply_pass(conv(), QuantizeStatic(), target="x86-vnni", calibration=IMAGES)
    before = graph.to_model()
    if isinstance(item, QuantizeStatic):
        with pytest.raises(PassError, match="the model is quantized already"):
            apply_pass(before, item, target="x86-vnni", calibration=IMAGES)
        return
    again, record = apply_pass(before, item, target="x86-vnni")
    assert not record.changes
    assert again.to_model() == before


def test_what_is_dequantized_at_every_call_is_expanded_at_load(apply_pass: ApplyPass) -> None:
    model = conv()
    graph, record = apply_pass(model, QuantizeWeights(), target="x86-vnni")
    assert [edit.what for edit in record.changes] == [
        "the codes of its weight are expanded when it is loaded"
    ]
    assert operators(graph) == {"Cast": 1, "Mul": 1, "Conv": 1, "Relu": 1}
    assert np.array_equal(codes(graph)[0], CONV)
    assert close(model, graph, IMAGES, EXACT_DB)


def test_codes_with_other_zero_points_stay(apply_pass: ApplyPass) -> None:
    model = conv(z=np.full(16, 3, np.int8))
    _, record = apply_pass(model, QuantizeWeights(), target="x86-vnni")
    assert not record.changes


@pytest.mark.parametrize("count", [1, 64])
def test_rows_of_a_table_are_picked_before_they_are_dequantized(
    apply_pass: ApplyPass, count: int
) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (int64[n] i) => (float[n, 32] y) {
      w = DequantizeLinear <axis = 0> (q, s) y = Gather(w, i)
    }"""
    table = RNG.integers(-127, 128, size=(64, 32)).astype(np.int8)
    scale = scales(64) if count > 1 else np.float32(0.5)
    model = model_from_text(text, {"q": table, "s": np.asarray(scale)})
    graph, _ = apply_pass(model, QuantizeWeights(), target="x86-vnni")
    assert operators(graph) == {"Gather": 1 + (count > 1), "Cast": 1, "Mul": 1}
    assert close(model, graph, {"i": np.array([0, 63, 5])}, EXACT_DB)


def test_turned_codes_that_others_read_are_stored_once(apply_pass: ApplyPass) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (int64[n] i) => (float[n, 64] y) {
      w = DequantizeLinear <axis = 0> (q, s) e = Gather(w, i)
      t = Transpose <perm = [1, 0]> (w) y = MatMul(e, t)
    }"""
    table = RNG.integers(-127, 128, size=(64, 32)).astype(np.int8)
    model = model_from_text(text, {"q": table, "s": scales(64)})
    graph, record = apply_pass(model, QuantizeWeights(), target="x86-vnni")
    assert len(record.changes) == 2
    assert [each.shape for each in codes(graph)] == [(64, 32)]
    assert close(model, graph, {"i": np.array([0, 63, 5])}, EXACT_DB)
