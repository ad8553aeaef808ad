"""A detector with its selection inside: what is written keeps its rows, by a count of our own."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import graphopt
from graphopt.runtime import bursts

torch = pytest.importorskip("torch")
detector = pytest.importorskip("detector")


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's own code
        made: onnx.ModelProto = detector.detector()
    return made


def _answers(model: onnx.ModelProto, pictures: np.ndarray) -> list[dict[str, Any]]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = ["boxes", "scores", "labels"]
    answers = [session.run(names, {"images": each[None]}) for each in pictures]
    return [dict(zip(names, each, strict=True)) for each in answers]


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    common = float(sides.prod())
    return common / (float((a[2:] - a[:2]).prod()) + float((b[2:] - b[:2]).prod()) - common)


def _matched(right: dict[str, Any], answer: dict[str, Any]) -> int:
    """Boxes taken one after the other, the best overlap first."""
    pairs = sorted(
        (
            (-_overlap(a, b), i, j)
            for i, a in enumerate(right["boxes"])
            for j, b in enumerate(answer["boxes"])
            if right["labels"][i] == answer["labels"][j] and _overlap(a, b) >= 0.5
        ),
    )
    ours, theirs = set[int](), set[int]()
    for _, i, j in pairs:
        if i not in ours and j not in theirs:
            ours.add(i)
            theirs.add(j)
    return len(ours)


@pytest.mark.parametrize("preset", ["auto", "int8-static"])
def test_rows_are_kept_or_float_is(
    model: onnx.ModelProto, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bursts, "_BURST_SECONDS", 0.001)
    pictures = detector.scenes(48, 1)
    result = graphopt.optimize(
        model,
        preset=preset,
        data=graphopt.Data(
            calibration={"images": detector.scenes(48, 0)}, evaluation={"images": pictures}
        ),
    )
    right, answers = _answers(model, pictures), _answers(result.model, pictures)
    matched = sum(map(_matched, right, answers))
    expected, actual = (sum(len(each["boxes"]) for each in side) for side in (right, answers))
    assert expected > 100
    assert min(len(each["boxes"]) for each in right) == 0
    quality = result.report.quality
    assert quality is not None
    for name in ("boxes", "scores", "labels"):
        rows = quality.outputs[name].rows
        assert rows is not None
        assert (rows.expected, rows.actual) == (expected, actual)
        assert abs(rows.matched - matched) <= 1  # the best sum of overlaps is not greedy
        other = sum(len(a["boxes"]) != len(b["boxes"]) for a, b in zip(right, answers, strict=True))
        assert rows.other_number == other
    if preset == "auto":
        assert min(matched / expected, matched / actual) >= 0.97
