"""What a run measures with, put together from what the user gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnxruntime import InferenceSession

from graphopt.commands import mobile
from graphopt.commands.measuring import means_of
from graphopt.commands.optimize import optimize
from graphopt.commands.sources import Data
from graphopt.contract.recipe import METADATA_KEY, Recipe
from graphopt.contract.settings import Limits, Machine
from graphopt.errors import LimitError
from graphopt.graph import io
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, model_from_text


def test_samples_take_the_batch_that_either_model_fixes() -> None:
    student, fixed = MODELS["mlp"](), MODELS["mlp"]()
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    (name,) = (value.name for value in student.graph.input)
    width = student.graph.input[0].type.tensor_type.shape.dim[-1].dim_value
    samples = {name: np.random.default_rng(0).standard_normal((5, width)).astype(np.float32)}
    free, teacher = io.load(student), io.load(fixed)
    batches = []
    for goal in (free, teacher):
        means = means_of(
            Recipe(target="arm", seed=3, max_drop=1.0),
            Data(evaluation=samples),
            Limits(strict=True),
            Machine(threads=1),
            reference=goal,
            teacher=goal,
            student=free,
        )
        assert means.evaluation is not None
        batches.append([len(feeds[name]) for feeds, _ in means.evaluation.feeds(batch=4)])
        assert (means.target.name, means.seed, means.threads) == ("arm", 3, 1)
        assert (means.limits.strict, means.limits.max_drop) == (True, 1.0)
    assert batches == [[4, 1], [1, 1, 1, 1, 1]]


def test_a_result_that_grew_is_told_although_nothing_was_run() -> None:
    model = MODELS["opset-9"]()
    grown = optimize(model, "upgrade-opset", memory_limit=1)
    assert grown.report.quality is not None
    assert grown.report.quality.samples == 0
    assert grown.report.output is not None
    assert grown.report.output.bytes > grown.report.input.bytes
    assert [text for text in grown.report.messages if "larger than the input" in text]


def test_constants_that_a_runtime_would_build_count_against_the_memory_limit() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y) {
        [n] k = ConstantOfShape(sizes)  r = ReduceMax<keepdims = 0>(k)  y = Add(x, r) }"""
    model = model_from_text(text, {"sizes": np.array([40000, 40000])})
    quality = optimize(model, "eliminate-dead", memory_limit=500_000_000).report.quality
    assert quality is not None
    assert quality.samples == 0
    assert "it builds about 6.4 GB (6.4 GB by 'n') where 0.5 GB are allowed" in quality.note
    small = model_from_text(text, {"sizes": np.array([400, 400])})
    quality = optimize(small, "eliminate-dead", memory_limit=500_000_000).report.quality
    assert quality is not None and quality.samples > 0


@pytest.mark.parametrize(
    ("count", "evaluated", "judged", "source", "note"),
    [
        (40, False, 8, "held-out", "8 of the 40 calibration samples were held back"),
        (19, False, 19, "calib", "measured on the 19 samples that the passes observed"),
        (40, True, 6, "eval", ""),
    ],
)
def test_calibration_samples_do_not_judge_what_was_calibrated_on_them(
    count: int, evaluated: bool, judged: int, source: str, note: str
) -> None:
    model = MODELS["mlp"]()
    (port,) = model.graph.input
    width = port.type.tensor_type.shape.dim[-1].dim_value
    samples = np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)
    evaluation = {port.name: samples[:6] + 1} if evaluated else None
    runs = [
        optimize(
            model, preset="int8-static", calibration={port.name: samples}, evaluation=evaluation
        )
        for _ in range(2)
    ]
    quality = runs[0].report.quality
    assert quality is not None
    assert (quality.samples, quality.source) == (judged, source)
    assert quality.note.startswith(note)
    assert bool(quality.note) == bool(note)
    assert (quality.fresh is None) == (source == "calib")
    few = f"{count - (judged if source == 'held-out' else 0)} samples are few for static ranges"
    assert [text for text in runs[0].report.messages if text.startswith(few)]
    first, again = (run.model.SerializeToString() for run in runs)
    assert first == again


def test_a_name_that_ends_in_ort_gives_the_mobile_format(tmp_path: Path) -> None:
    data = {"x": np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)}
    made = optimize(MODELS["cnn"](), "quantize-static", calibration=data, target="arm", trial=False)
    place = tmp_path / "model.ort"
    saved = made.save(place)
    session = InferenceSession(place.read_bytes())
    assert METADATA_KEY in session.get_modelmeta().custom_metadata_map
    expected = Session(made.graph, threads=1).run({"x": data["x"][:1]})
    for value in session.get_outputs():
        (told,) = session.run([value.name], {"x": data["x"][:1]})
        np.testing.assert_allclose(told, expected[value.name], rtol=1e-5, atol=1e-5)
    output = saved.report.output
    assert output is not None
    assert (output.path, output.bytes) == (str(place), place.stat().st_size)
    assert [text for text in saved.report.messages if "is in onnxruntime's mobile format" in text]
    assert [path.name for path in tmp_path.iterdir()] == ["model.ort"]


def test_what_is_too_large_for_the_mobile_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = optimize(MODELS["mlp"](), "eliminate-dead", trial=False)
    monkeypatch.setattr(mobile, "INLINE_LIMIT_BYTES", 1)
    with pytest.raises(LimitError, match="a file of this format ends at 2 GB"):
        made.save(tmp_path / "model.ort")
    assert not list(tmp_path.iterdir())
