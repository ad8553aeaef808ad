"""The planner: its words on candidates that come to nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

import graphopt.passes  # noqa: F401 - fills the registry
from graphopt.contract.settings import Limits
from graphopt.run.verify import verify
from graphopt.search import planner
from graphopt.search.planner import _chosen_by, intentions, search
from graphopt.testing import model_from_text, staged
from graphopt.testing.text import random_weight

SMALL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }
"""
FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
g (float[N, 8] x) => (float[N, 8] y) { y = my.Twice(x) }
<domain: "my", opset_import: ["" : 17]> Twice (a) => (b) { b = Add(a, a) }
"""


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (SMALL, "nothing to quantize: fewer than min_size=1024 elements"),
        (
            FUNCTION,
            "nothing to quantize outside the functions of the model, which stay as they are",
        ),
    ],
)
def test_a_candidate_that_changes_nothing_says_why_once(text: str, verdict: str) -> None:
    model = onnx.parser.parse_model(text)
    choice = search(*staged(model, calibrated=False, judged=False))
    assert verdict in [item.verdict for item in choice.candidates]
    assert choice.passes == []
    assert choice.messages == ["no candidate is better than the cleaned float model, which is kept"]


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "double"])
def test_other_floats_get_the_int8_forms_of_float32(kind: str) -> None:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(getattr(onnx.TensorProto, kind.upper()))
    values = random_weight((128, 128), np.random.default_rng(0)).astype(dtype)
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g ({kind}[4, 128] x) => ({kind}[4, 128] y) {{ m = MatMul(x, w) y = Relu(m) }}"""
    model = model_from_text(text, {"w": values})
    choice = search(*staged(model, count=8, target="x86-vnni"))
    names = [item.name for item in choice.candidates]
    assert "float32 arithmetic" in names
    assert ("float, cleaned" in names) is (kind != "bfloat16")  # it has no MatMul of bfloat16
    integers = [item for item in choice.candidates if item.name.startswith("int8")]
    assert len(integers) == 3
    for item in integers:
        assert item.spec.startswith("convert-to-float32,")
        assert item.bytes < 0.6 * len(model.SerializeToString())
        assert item.sqnr_db is not None and item.sqnr_db > 25


def test_by_which_samples_a_form_was_chosen_is_said() -> None:
    stage, means = staged(onnx.parser.parse_model(SMALL), count=2)
    assert means.judge is not None
    verified = verify(stage, means)
    words = "chose among 5 forms; figures of others may be a little lower"
    many = replace(verified, quality=replace(verified.quality, samples=9))
    assert _chosen_by(5, means.judge, verified, limited=True) == f"the same samples {words}"
    first = "the same first 2 samples"
    assert _chosen_by(5, means.judge, many, limited=False) == f"{first} {words}"
    told = f"{first}, and all 9 by your limits, {words}"
    assert _chosen_by(5, means.judge, many, limited=True) == told


def lstm(target: str) -> list[str]:
    """Names of what is tried for a model of nothing but an LSTM."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[5, N, 32] x) => (float[5, N, 32] y) {
          s, h, c = LSTM <hidden_size = 32> (x, w, r) y = Squeeze(s, one)
        }"""
    w, r = (random_weight((1, 128, 32), np.random.default_rng(seed)) for seed in (0, 1))
    model = model_from_text(text, {"w": w, "r": r, "one": np.array([1])})
    choice = search(*staged(model, count=8, target=target))
    assert all("DynamicQuantizeLSTM" not in item.spec for item in choice.candidates)
    return [item.name for item in choice.candidates]


def test_a_recurrent_model_is_tried_on_integers_where_the_target_can() -> None:
    assert lstm("x86-vnni") == ["float, cleaned", "int8 dynamic", "int8 weights only"]
    assert lstm("generic") == ["float, cleaned", "int8 weights only"]


@pytest.mark.parametrize(
    ("body", "name", "told"),
    [
        ("v = DequantizeLinear(i, s) y = MatMul(x, v)", "small weights, cleaned", ""),
        (
            "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) "
            "v = DequantizeLinear(i, s) y = MatMul(d, v)",
            "quantized already",
            "quantized already",
        ),
    ],
)
def test_what_a_model_came_as(body: str, name: str, told: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2] x) => (float[N, 2] y)
        <float s = {{0.1}}, uint8 z = {{3}}, int8[2, 2] i = {{1, 2, 3, 4}}> {{ {body} }}"""
    choice = search(*staged(onnx.parser.parse_model(text), calibrated=False, judged=False))
    assert choice.candidates[0].name == name
    assert told in choice.messages[0]
    assert "float" not in choice.messages[0]


def test_what_cannot_be_converted_says_why() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        g (float16[4, 64] x) => (float16[4, 64] y) { m = MatMul(x, w) y = own.Op(m) }"""
    model = model_from_text(text, {"w": np.ones((64, 64), np.float16)})
    choice = search(*staged(model, calibrated=False, judged=False))
    reason = "computes in float16: 'Op(y)' (own:Op) may take no float32"
    assert (choice.candidates[1].name, choice.candidates[1].verdict) == (
        "float32 arithmetic",
        reason,
    )
    assert choice.passes == []


@pytest.mark.parametrize(("torch", "more"), [(True, ", and train what is left"), (False, "")])
def test_within_a_limit_channels_would_go(
    torch: bool, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "torch_is_there", lambda: torch)
    model = onnx.parser.parse_model(SMALL)
    words = f"then it would remove channels as far as the limits allow{more}"
    assert words in intentions(*staged(model, limits=Limits(min_sqnr_db=20.0)))
    assert not any("channels" in line for line in intentions(*staged(model)))
    lacking = staged(model, limits=Limits(min_sqnr_db=20.0), calibrated=False)
    assert not any("channels" in line for line in intentions(*lacking))
