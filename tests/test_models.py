"""The models of ``models/``: valid, as good as their README says, small, free of local paths."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from graphopt.runtime.library import onnxruntime

FOLDER = Path(__file__).parent.parent / "models"
NAMES = ("digits-cnn", "digits-mlp", "digits-transformer")
FEATURES = {
    "digits-cnn": {"Conv", "BatchNormalization", "Add", "Clip", "ReduceMean", "Gemm"},
    "digits-mlp": {"Gemm", "Relu"},
    "digits-transformer": {"MatMul", "Softmax", "LayerNormalization", "Gelu", "Transpose"},
}


def arrays(name: str) -> dict[str, NDArray[Any]]:
    with np.load(FOLDER / name, allow_pickle=False) as archive:
        return dict(archive)


def load(name: str) -> onnx.ModelProto:
    return onnx.load(FOLDER / f"{name}.onnx")


def documented_accuracy(name: str) -> float:
    row = re.search(rf"\| `{name}\.onnx` .*\| ([\d.]+) % \|", (FOLDER / "README.md").read_text())
    assert row is not None
    return float(row[1])


@pytest.mark.parametrize("name", NAMES)
def test_model_is_a_valid_export(name: str) -> None:
    model = load(name)
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} >= FEATURES[name]
    (entry,) = model.graph.input
    assert entry.name == "input"
    assert [axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim] == [
        "batch",
        1,
        8,
        8,
    ]
    assert model.doc_string
    assert {item.key for item in model.metadata_props} == {"classes", "dataset", "license"}


def test_cnn_keeps_its_batch_normalization_and_a_depthwise_convolution() -> None:
    graph = load("digits-cnn").graph
    assert Counter(node.op_type for node in graph.node)["BatchNormalization"] == 8
    groups = [a.i for node in graph.node for a in node.attribute if a.name == "group"]
    assert max(groups) > 1


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_is_the_documented_one(name: str) -> None:
    data = arrays("digits-eval.npz")
    session = onnxruntime.InferenceSession(
        FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(None, {"input": data["input"]})
    right = 100 * (np.asarray(logits).argmax(axis=1) == data["labels"]).mean()
    assert right >= 97
    assert right == pytest.approx(documented_accuracy(name), abs=0.13)  # one picture of 797


def test_data_fit_the_models_and_do_not_overlap() -> None:
    calib = arrays("digits-calib.npz")
    judge = arrays("digits-eval.npz")
    assert list(calib) == ["input"]
    assert list(judge) == ["input", "labels"]
    for rows in (calib["input"], judge["input"]):
        assert rows.dtype == np.float32
        assert rows.shape[1:] == (1, 8, 8)
        assert rows.min() == 0
        assert rows.max() == 1
    assert set(judge["labels"].tolist()) == set(range(10))
    seen = {row.tobytes() for row in calib["input"]}
    assert not seen & {row.tobytes() for row in judge["input"]}


def test_all_together_stay_small_and_name_no_folder_of_their_maker() -> None:
    files = [path for path in FOLDER.iterdir() if path.suffix in (".onnx", ".npz")]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    for name in NAMES:
        content = (FOLDER / f"{name}.onnx").read_bytes()
        assert not re.search(rb"site-packages|/[a-z]+/[\w/]+\.py", content)
