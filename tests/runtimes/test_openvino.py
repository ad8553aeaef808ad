"""Files for OpenVINO, run there: they agree with onnxruntime and are computed on integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.runtimes.conftest import Made, sqnr_db

openvino = pytest.importorskip("openvino")

_LAYERS = ("Convolution", "FullyConnected", "MatMul")
_OPTIONS = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16


def _run(made: Made) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Answers to all feeds, and how many layers run in which type."""
    core = openvino.Core()
    model = core.compile_model(core.read_model(made.data), "CPU", _OPTIONS)
    answers = [
        {out.get_any_name(): found[out] for out in model.outputs}
        for found in (model(feed) for feed in made.feeds)
    ]
    types = Counter[str]()
    for op in model.get_runtime_model().get_ordered_ops():
        info = {key: str(op.get_rt_info()[key].value) for key in ("layerType", "runtimePrecision")}
        if info["layerType"] in _LAYERS:
            types[info["runtimePrecision"]] += 1
    return answers, types


@pytest.mark.parametrize("name", ["network", "cnn"])
def test_static_int8_runs_on_integers(name: str, made_for: Callable[..., Made]) -> None:
    made = made_for(name, "openvino", "quantize-static")
    answers, types = _run(made)
    quantized = sum(node.op_type in ("Conv", "Gemm", "MatMul") for node in made.graph.main.nodes)
    assert types == {"u8": quantized}
    assert sqnr_db(made.answers, answers, "y") >= 30  # it rounds its requantization otherwise


def test_int8_weights_are_read(made_for: Callable[..., Made]) -> None:
    made = made_for("network", "openvino", "quantize-weights{min_size=1}")
    answers, _ = _run(made)
    assert sqnr_db(made.answers, answers, "y") >= 40  # it may quantize activations by itself


@pytest.mark.parametrize("name", ["cnn", "embedding", "transformer"])
def test_float_files_with_fixed_shapes_are_read(name: str, made_for: Callable[..., Made]) -> None:
    made = made_for(name, "openvino", "fix-shapes{batch=1}")
    answers, _ = _run(made)
    for output in made.graph.main.outputs:
        assert sqnr_db(made.answers, answers, output) >= 90


def test_sparse_files_are_refused_and_dense_ones_read(made_for: Callable[..., Made]) -> None:
    sparse = "mask-weights{sparsity=0.9,storage=sparse}"
    with pytest.raises(RuntimeError):
        _run(made_for("mlp", "openvino", sparse))
    made = made_for("mlp", "openvino", f"{sparse},densify")
    answers, _ = _run(made)
    for output in made.graph.main.outputs:
        assert np.isfinite(answers[0][output]).all()
        assert sqnr_db(made.answers, answers, output) >= 90
