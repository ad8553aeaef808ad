"""Which layers other runtimes would compute on integers, by their tables."""

from __future__ import annotations

import json

import onnx
import pytest

from graphopt import inspect
from graphopt.commands.fits import target_fits
from graphopt.contract.spec import parse_passes
from graphopt.errors import UsageError
from graphopt.graph import io
from graphopt.report import listing
from graphopt.report.findings import TargetFit
from graphopt.report.json import dump
from graphopt.testing import MODELS, apply_passes, model_from_text

NAMES = ("xnnpack", "nnapi", "qnn", "coreml", "web", "openvino", "tensorrt")
OPEN = "sizes are open: N; fix-shapes fixes them"


def _quantized(target: str, *before: str) -> onnx.ModelProto:
    passes = parse_passes(",".join([*before, "fuse-batchnorm,quantize-static"]))
    graph, records = apply_passes(passes, MODELS["cnn"](), target=target)
    assert [record.status for record in records] == ["done"] * len(records)
    return graph.to_model()


def _found(model: onnx.ModelProto) -> dict[str, TargetFit]:
    return {fit.target: fit for fit in target_fits(io.load(model), NAMES)}


def test_uint8_activations_are_for_some_and_int8_ones_for_others() -> None:
    found = _found(_quantized("arm"))
    assert found["openvino"].integer == found["openvino"].layers > 3
    for name in ("qnn", "nnapi"):  # which want the result quantized as well
        assert found[name].integer == found[name].layers - 1, name
        assert [each.first for each in found[name].reasons] == ["gemm_10"]
    for name in ("xnnpack", "tensorrt"):
        assert found[name].integer == 0, name
        assert "uint8 codes, the kernels take int8" in found[name].reasons[0].reason
    assert found["coreml"].integer == 0
    assert all(fit.quantized is None for fit in found.values())


def test_a_file_made_for_a_target_fits_it() -> None:
    for name in ("xnnpack", "tensorrt"):
        fit = _found(_quantized(name))[name]
        convolutions = [each for each in fit.reasons if each.first.startswith("conv")]
        assert fit.integer > 3, name
        assert not convolutions, name


def test_open_sizes_are_told_until_they_are_fixed() -> None:
    assert _found(_quantized("qnn"))["qnn"].hurdles == [OPEN]
    fixed = _found(_quantized("qnn", "fix-shapes{batch=1}"))
    assert fixed["qnn"].hurdles == fixed["nnapi"].hurdles == []


def test_of_a_float_model_it_is_told_what_could_be_quantized() -> None:
    found = _found(MODELS["cnn"]())
    for name in ("openvino", "nnapi"):
        assert found[name].integer == 0
        assert found[name].quantized == found[name].layers
        assert [each.reason for each in found[name].reasons] == ["its weight is float"]
        assert found[name].reasons[0].layers == found[name].layers
    assert found["coreml"].quantized == 0


def test_layers_that_take_longer_on_integers_are_told() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,8,8,8] x) => (float[N,8,8,8] y) {
      a = Conv <pads = [1, 1, 1, 1]> (x, V)  b = Relu (a)
      c = Conv <pads = [1, 1, 1, 1], group = 8> (b, W)  y = Relu (c) }"""
    model = model_from_text(text, {"V": (8, 8, 3, 3), "W": (8, 1, 3, 3)})
    graph, _ = apply_passes(parse_passes("quantize-static"), model, target="arm")
    found = _found(graph.to_model())
    slow = "grouped or narrow layers that take longer on integers than in floats: 1"
    assert found["web"].hurdles == [slow]
    assert found["openvino"].hurdles == []


def test_operators_of_onnxruntime_alone_are_told() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g (float[N,4] x) => (float[N,4] y) { y = com.microsoft.QuickGelu (x) }"""
    found = _found(onnx.parser.parse_model(text))
    assert "operators of com.microsoft, which it lacks: QuickGelu" in found["openvino"].hurdles
    assert found["web"].hurdles == []


def test_inspect_shows_them_and_dumps_them(capsys: pytest.CaptureFixture[str]) -> None:
    found = inspect(_quantized("arm"), passes=False, runtimes=["web", "qnn", "web"], trial=False)
    assert [fit.target for fit in found.fits] == ["web", "qnn"]
    listing.print_inspection(found)
    shown = capsys.readouterr().out
    assert "Layers on integers, by the tables of the targets; nothing was run there" in shown
    assert OPEN in shown
    assert [each["target"] for each in json.loads(dump(found))["fits"]] == ["web", "qnn"]
    with pytest.raises(UsageError, match="unknown target 'xnpack'; did you mean 'xnnpack'"):
        inspect(MODELS["mlp"](), passes=False, runtimes=["xnpack"], trial=False)
