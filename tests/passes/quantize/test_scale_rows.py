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
from graphopt.passes.quantize import QuantizeDynamic, QuantizeStatic, ScaleRows
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text
from graphopt.testing.decoders import decoder

ApplyPass = Callable[..., Any]

LOSSLESS_DB = 110.0  # float32 rounding
RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(24, 10, 32)).astype(np.float32)
ROWS[:, 0] *= 300  # the first token
ROWS[:, 7] = 0  # padding
DATA = {"x": ROWS}


def model(body: str, opset: int = 17, outputs: str = "float[N, 10, 48] y") -> onnx.ModelProto:
    return model_from_text(
        f"""<ir_version: 8, opset_import: ["" : {opset}]>
        rows (float[N, 10, 32] x) => ({outputs}) {{ {body} }}""",
        {"w": (32, 48), "v": (32, 48), "b": (48,), "flat": np.array([-1, 32])},
    )


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph.main.nodes)


def row_sqnr(before: onnx.ModelProto, after: Graph) -> float:
    """Mean SQNR of the single rows of ``y`` that are not padding, dB."""
    expected, actual = Session(Graph(before)).run(DATA)["y"], Session(after).run(DATA)["y"]
    pairs = zip(expected.reshape(-1, 48), actual.reshape(-1, 48), strict=True)
    found = [sqnr.sqnr_db(*pair) for pair in pairs if pair[0].any()]
    return float(np.mean([value for value in found if value is not None]))


@pytest.mark.parametrize("opset", [11, 17, 18])
def test_each_row_gets_a_scale_of_its_own(apply_pass: ApplyPass, opset: int) -> None:
    before = model("y = MatMul(x, w)", opset)
    graph, record = apply_pass(before, ScaleRows(), calibration=DATA)
    assert [edit.node for edit in record.changes] == ["MatMul(y)"]
    assert "each row of x divided by its largest value; expected SQNR rises by" in (
        record.changes[0].what
    )
    assert operators(graph) == Counter(["Abs", "ReduceMax", "Max", "Div", "MatMul", "Mul"])
    assert row_sqnr(before, graph) > LOSSLESS_DB
    assert np.isfinite(Session(graph).run({"x": np.zeros_like(ROWS)})["y"]).all()


@pytest.mark.parametrize("quantize", [QuantizeDynamic(), QuantizeStatic()])
def test_small_rows_keep_their_codes(apply_pass: ApplyPass, quantize: Any) -> None:
    before = model("y = MatMul(x, w)")
    plain, _ = apply_pass(before, quantize, calibration=DATA)
    graph, record = apply_pass(before, ScaleRows(), calibration=DATA)
    scaled, _ = apply_pass(graph.to_model(), quantize, calibration=DATA)
    gain = row_sqnr(before, scaled) - row_sqnr(before, plain)
    told = float(record.changes[0].what.split("rises by ")[1].split(" dB")[0])
    assert gain > 20
    assert told > 20


def test_layers_that_read_one_tensor_share_the_scale(apply_pass: ApplyPass) -> None:
    before = model(
        "y = MatMul(x, w) z = MatMul(x, v) s = Relu(x)",
        outputs="float[N, 10, 48] y, float[N, 10, 48] z, float[N, 10, 32] s",
    )
    graph, record = apply_pass(before, ScaleRows(), calibration=DATA)
    assert len(record.changes) == 2
    assert operators(graph)["Div"] == 1
    assert operators(graph)["Mul"] == 2
    (relu,) = [node for node in graph.main.nodes if node.op_type == "Relu"]
    assert list(relu.input) == ["x"]
    assert row_sqnr(before, graph) > LOSSLESS_DB


def test_rows_of_one_size_stay(apply_pass: ApplyPass) -> None:
    even = {"x": RNG.normal(size=(8, 10, 32)).astype(np.float32)}
    _, record = apply_pass(model("y = MatMul(x, w)"), ScaleRows(), calibration=even)
    assert record.status == "nothing to do"
    assert "min_gain is 3" in record.skipped[0].reason


def test_a_second_run_finds_nothing(apply_pass: ApplyPass) -> None:
    graph, _ = apply_pass(model("y = MatMul(x, w)"), ScaleRows(), calibration=DATA)
    _, record = apply_pass(graph.to_model(), ScaleRows(min_gain=0.0), calibration=DATA)
    assert record.status == "nothing to do"


def test_a_layer_with_a_bias_of_its_own_stays(apply_pass: ApplyPass) -> None:
    before = model(
        "r = Reshape(x, flat) y = Gemm(r, w, b)",
        outputs="float[M, 48] y",
    )
    _, record = apply_pass(before, ScaleRows(), calibration=DATA)
    assert record.status == "nothing to do"
    assert [skip.reason for skip in record.skipped] == ["it adds a bias itself"]


def test_options_choose_layers(apply_pass: ApplyPass) -> None:
    before = model("y = MatMul(x, w)")
    for given, reason in (
        (ScaleRows(exclude=("MatMul",)), "nodes and exclude"),
        (ScaleRows(min_size=10_000), "min_size=10000"),
        (ScaleRows(min_gain=99), "min_gain is 99"),
    ):
        _, record = apply_pass(before, given, calibration=DATA)
        assert reason in record.skipped[0].reason


def test_samples_are_needed(apply_pass: ApplyPass) -> None:
    with pytest.raises(PassError, match="calibration samples"):
        apply_pass(model("y = MatMul(x, w)"), ScaleRows())


def test_a_decoder_with_loud_tokens_comes_close(apply_pass: ApplyPass) -> None:
    rng = np.random.default_rng(1)
    past = (16, 1, 3, 16)
    data: dict[str, NDArray[Any]] = {
        "tokens": rng.integers(0, 64, (16, 12)),
        "past_key": rng.normal(size=past).astype(np.float32),
        "past_value": rng.normal(size=past).astype(np.float32),
        "x": rng.normal(size=(16, 4)).astype(np.float32),
    }
    before = decoder()
    expected = Session(Graph(before)).run(data)["logits"]

    def quality(graph: Graph) -> float:
        found = sqnr.sqnr_db(expected, Session(graph).run(data)["logits"])
        assert found is not None
        return found

    plain, _ = apply_pass(before, QuantizeDynamic(min_size=0))
    scaled, record = apply_pass(before, ScaleRows(min_size=0), calibration=data)
    assert "inner" in " ".join(edit.what for edit in record.changes)
    both, _ = apply_pass(scaled.to_model(), QuantizeDynamic(min_size=0))
    assert quality(both) > quality(plain) + 6
