"""A detector whose number of rows depends on the picture keeps its boxes on integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import graphopt
from graphopt.graph.tensors import Array
from tests.bridge.nms_detector import detector, pictures


def _overlap(p: Array, q: Array) -> Array:
    """Intersection over union of every pair of boxes."""
    low = np.maximum(p[:, None, :2], q[None, :, :2])
    high = np.minimum(p[:, None, 2:], q[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [(each[:, 2:] - each[:, :2]).prod(-1) for each in (p, q)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared))


def _matched(p: Array, q: Array) -> int:
    """Boxes of ``p`` with one of ``q`` of their own that overlaps by half."""
    shared, taken = _overlap(p, q), 0
    while shared.size and shared.max() >= 0.5:
        row, column = np.unravel_index(shared.argmax(), shared.shape)
        shared = np.delete(np.delete(shared, row, 0), column, 1)
        taken += 1
    return taken


def _boxes(model: onnx.ModelProto, samples: Array) -> list[Array]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(session.run(["boxes"], {"picture": each[None]})[0]) for each in samples]


@pytest.mark.parametrize("preset", ["auto", "int8-static"])
def test_recall_and_precision_are_kept_and_told_as_they_are(preset: str) -> None:
    model = detector()
    samples, _ = pictures(60, 2)
    result = graphopt.optimize(
        model,
        preset=preset,
        calibration={"picture": pictures(64, 1)[0]},
        evaluation={"picture": samples},
        threads=1,
    )
    before, after = (_boxes(each, samples) for each in (model, result.model))
    matched = sum(map(_matched, before, after))
    recall = matched / sum(map(len, before))
    precision = matched / sum(map(len, after))
    assert min(recall, precision) >= 0.97
    ops = {node.op_type for node in result.model.graph.node}
    assert "DequantizeLinear" in ops or "Cast" in ops  # int8 of one form or another
    assert result.report.quality is not None
    rows = result.report.quality.outputs["boxes"].rows
    assert rows is not None
    assert rows.recall == pytest.approx(100 * recall, abs=0.5)
    assert rows.precision == pytest.approx(100 * precision, abs=0.5)
