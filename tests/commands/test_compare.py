from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from graphopt.commands.compare import compare
from graphopt.errors import DataError, ModelError, Need
from graphopt.report import listing
from graphopt.report.json import dump
from graphopt.runtime import bursts

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 8] x) => (float[N, 5] logits, int64[N] top)
{
    logits = MatMul(x, w)
    top = ArgMax<axis = 1, keepdims = 0>(logits)
}
"""
WEIGHT = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)


@pytest.fixture(autouse=True)
def _short_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bursts, "_BURST_SECONDS", 0.001)


def model(weight: Any = WEIGHT, text: str = MODEL) -> onnx.ModelProto:
    made = parser.parse_model(text)
    made.graph.initializer.append(numpy_helper.from_array(np.asarray(weight, np.float32), "w"))
    return made


def test_a_model_equals_itself() -> None:
    found = compare(model(), model())
    assert found.quality is not None
    assert found.quality.sqnr_db["logits"] == 300.0
    assert found.quality.agreement_top1 == 100.0
    assert found.cosine["logits"] == pytest.approx(1.0)
    assert found.a.params == found.b.params == 40
    assert (found.latency_ratio, found.latency_spread, found.latency_clock) == (1.0, 0.0, "graph")
    assert found.a.latency_ms == found.b.latency_ms is not None
    assert found.note.startswith("random feeds")
    assert found.needs == (Need.DATA,)


def test_figures_of_a_model_that_is_a_little_off() -> None:
    data = {"x": np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)}
    noise = 0.01 * np.random.default_rng(2).standard_normal(WEIGHT.shape).astype(np.float32)
    found = compare(model(), model(WEIGHT + noise), data)
    f, g = data["x"] @ WEIGHT, data["x"] @ (WEIGHT + noise)
    assert found.quality is not None
    expected = 10 * math.log10(float((f**2).sum() / ((f - g) ** 2).sum()))
    assert found.quality.sqnr_db["logits"] == pytest.approx(expected, abs=0.01)
    cosine = float((f * g).sum() / np.linalg.norm(f) / np.linalg.norm(g))
    assert found.cosine["logits"] == pytest.approx(cosine, abs=1e-6)
    agreement = 100 * float((f.argmax(1) == g.argmax(1)).mean())
    assert found.quality.agreement_top1 == pytest.approx(agreement)
    assert (found.quality.samples, found.feeds, found.note) == (40, "40 samples", "")
    assert found.needs == ()


def test_paths_are_named_with_hash_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    onnx.save(model(), path)
    found = compare(path, model())
    assert found.a.path == str(path) and found.b.path is None
    assert found.a.bytes == path.stat().st_size and len(found.a.sha256) == 64


def test_an_opposite_model_has_cosine_minus_one() -> None:
    assert compare(model(), model(-WEIGHT)).cosine["logits"] == pytest.approx(-1.0)


def test_scores_in_different_forms_are_compared_as_probabilities() -> None:
    first = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 8] x) => (float[N, 5] y) '
    logits = model(text=first + "{ y = MatMul(x, w) }")
    shares = model(text=first + "{ s = MatMul(x, w) y = Softmax(s) }")
    data = {"x": np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)}
    for pair, words in (
        ((shares, logits), "output 'y' holds probabilities of A and logits of B"),
        ((logits, shares), "output 'y' holds logits of A and probabilities of B"),
    ):
        found = compare(*pair, data)
        assert found.quality is not None
        sqnr = found.quality.sqnr_db["y"]
        assert sqnr is not None
        assert sqnr > 100
        assert found.quality.agreement_top1 == 100
        assert found.cosine["y"] is None
        assert words in found.note


def test_a_zero_output_has_no_cosine() -> None:
    assert compare(model(), model(WEIGHT * 0)).cosine["logits"] is None


def test_a_fixed_batch_on_one_side_only() -> None:
    fixed = model(text=MODEL.replace("float[N, 8] x", "float[4, 8] x"))
    data = {"x": np.random.default_rng(1).standard_normal((10, 8)).astype(np.float32)}
    for first, second in ((fixed, model()), (model(), fixed)):
        found = compare(first, second, data)
        assert found.quality is not None and found.quality.samples == 10
        assert found.quality.sqnr_db["logits"] == 300.0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("float[N, 8] x", "float[N, 8] x, float[N] extra", "only in A: none; only in B: extra"),
        ("int64[N] top", "int64[N] top, float[N, 5] y2", "different outputs"),
        ("float[N, 8] x", "double[N, 8] x", r"input 'x' is float\[\?, 8\] in A and double"),
        ("float[N, 8] x", "float[N, 2, 8] x", "input 'x' is float"),
        ("float[N, 8] x", "float[N, 9] x", r"float\[\?, 9\] in B"),
    ],
)
def test_models_that_cannot_be_compared(old: str, new: str, words: str) -> None:
    text = MODEL.replace(old, new)
    if "y2" in new:
        text = text.replace("top = ArgMax", "y2 = Neg(logits)\n top = ArgMax")
    with pytest.raises(ModelError, match=words):
        compare(model(), model(text=text))


def test_random_feeds_that_do_not_fit_leave_the_rest() -> None:
    text = MODEL.replace("logits = MatMul(x, w)", "k = Gather(x, far)\n logits = MatMul(k, w)")
    made = model(text=text)
    made.graph.initializer.append(numpy_helper.from_array(np.array([99]), "far"))
    found = compare(made, made)
    assert found.quality is None and found.latency_ratio is None
    assert found.note.startswith("not run: random feeds do not fit")
    assert found.a.params > 0


@pytest.mark.parametrize("data", [None, {"x": np.zeros((4, 8), np.float32)}])
def test_without_a_kernel_there_is_a_description_and_the_reason(data: Any) -> None:
    first = (
        '<ir_version: 8, opset_import: ["" : 17, "own" : 1]> g (float[N, 8] x) => (float[N, 5] y) '
    )
    text = first + "{ s = MatMul(x, w) y = own.Strange(s) }"
    found = compare(model(text=text), model(text=text), data)
    assert found.quality is None
    assert found.note.startswith("not run: ")
    assert "Strange" in found.note
    assert found.a.params == 40


def test_data_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(DataError):
        compare(model(), model(), {"x": np.zeros((3, 9), np.float32)})


def test_progress_ends_at_the_end() -> None:
    seen: list[tuple[str, int, int]] = []
    compare(model(), model(), progress=lambda *at: seen.append(at))
    assert {what for what, _, _ in seen} == {"compare", "measure"}
    assert all(done <= total for _, done, total in seen)


def test_it_prints_and_dumps(capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(model(), model())
    listing.print_comparison(
        dataclasses.replace(found, latency_ratio=0.5, latency_spread=0.02, latency_clock="wall")
    )
    text = capsys.readouterr().out
    for word in ("latency", "0.500x +-0.020", "exact", "1.000000", "top-1 agreement", "random"):
        assert word in text
    assert '"latency_ratio"' in dump(found)
    listing.print_comparison(
        dataclasses.replace(found, quality=None, cosine={}, latency_ratio=None, note="because")
    )
    assert "because; give them with --data DATA" in capsys.readouterr().out


def test_labels_judge_both(capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)
    labels = (x @ WEIGHT).argmax(1)
    found = compare(model(), model(-WEIGHT), {"x": x, "labels": labels})
    assert found.quality is not None and found.quality.metric is not None
    metric = found.quality.metric
    assert (metric.name, metric.output, metric.before) == ("top1", "logits", 100)
    assert metric.after < 20
    listing.print_comparison(found)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "top1" in line]
    assert row.split()[:4] == ["top1", "of", "logits", "100.00"]


def test_labels_that_fit_nothing_are_said() -> None:
    x = np.zeros((4, 8), np.float32)
    found = compare(model(), model(), {"x": x, "labels": np.arange(40).reshape(4, 10)})
    assert found.quality is not None and found.quality.metric is None
    assert found.note.startswith(
        "no metric is measured: labels of shape [4, 10], int64 from 0 to 39"
    )
