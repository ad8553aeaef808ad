"""Models in onnxruntime's mobile format: small, and with the answers of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.contract.spec import parse_passes
from graphopt.data import SyntheticSamples
from graphopt.errors import ModelError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.runtime import mobile_format
from graphopt.runtime.library import onnxruntime
from graphopt.runtime.mobile_format import mobile_file
from graphopt.testing import MODELS, apply_passes, model_from_text


def _made(name: str, spec: str) -> tuple[Graph, dict[str, Any]]:
    graph, _ = apply_passes(parse_passes(spec), MODELS[name](), target="arm")
    return graph, next(SyntheticSamples(graph, 1).feeds())[0]


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("cnn", "fuse-batchnorm"),
        ("cnn", "fuse-batchnorm,quantize-static"),
        ("mlp", "quantize-dynamic"),
        ("embedding", "quantize-weights"),
    ],
)
def test_the_file_answers_like_the_model(name: str, spec: str) -> None:
    graph, feeds = _made(name, spec)
    made = mobile_file(graph, feeds)
    assert made.data[4:8] == b"ORTM"
    assert made.version == onnxruntime.__version__
    answers = onnxruntime.InferenceSession(made.data).run(None, feeds)
    whole = onnxruntime.InferenceSession(graph.to_model().SerializeToString())
    for told, right in zip(answers, whole.run(None, feeds), strict=True):
        np.testing.assert_allclose(told, right, rtol=1e-5, atol=1e-5)


def test_weights_that_are_stored_small_stay_small() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,256] x) => (float[N,256] y) { y = MatMul (x, W) }"""
    spec = parse_passes("quantize-weights")
    graph, _ = apply_passes(spec, model_from_text(text, {"W": (256, 256)}))
    made = mobile_file(graph, {"x": np.ones((1, 256), np.float32)})
    assert made.expands
    assert len(made.data) < 1.2 * io.size(graph) < 256 * 256 * 2
    static, _ = apply_passes(
        parse_passes("quantize-static"), model_from_text(text, {"W": (256, 256)})
    )
    assert not mobile_file(static).expands


def test_metadata_go_with_it() -> None:
    model = MODELS["mlp"]()
    model.metadata_props.append(onnx.StringStringEntryProto(key="recipe", value="made so"))
    data = mobile_file(io.load(model)).data
    session = onnxruntime.InferenceSession(data)
    assert session.get_modelmeta().custom_metadata_map["recipe"] == "made so"


def test_a_file_with_other_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, feeds = _made("mlp", "eliminate-dead")
    other, _ = _made("mlp", "quantize-weights")
    saved = mobile_format._saved
    monkeypatch.setattr(mobile_format, "_saved", lambda _, left_out: saved(other, left_out))
    with pytest.raises(ModelError, match="the mobile format gives another 'y' than the model"):
        mobile_file(graph, feeds)


def test_the_mobile_format_is_no_onnx_and_says_so() -> None:
    data = mobile_file(io.load(MODELS["mlp"]())).data
    with pytest.raises(ModelError, match=r"is in onnxruntime's mobile format \(.ort\), which only"):
        io.load(data)
