"""The scripts of ``docs/examples``, as a user names them: each on a model on which it has work."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.testing import model_from_text, run_model

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
HEAD = '<ir_version: 8, opset_import: ["" : 17], doc_string: "doc", producer_name: "tests">'


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def applied(model: onnx.ModelProto, name: str, options: str = "") -> graphopt.Result:
    spec = f'apply-function{{function="docs/examples/{name}.py:{name}"{options}}}'
    assert spec in " ".join((EXAMPLES / f"{name}.py").read_text().split()), "as its docstring says"
    result = graphopt.optimize(model, spec)
    (record,) = result.report.passes
    assert record.status == "done", record.reason
    return result


def op_types(model: onnx.ModelProto) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph.node))


def test_every_example_has_its_test() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"cut_tail", "log_softmax", "slim"}


def test_cut_tail() -> None:
    model = model_from_text(
        f"""{HEAD} g (float[N, 4] x) => (float[N, 3] probs, int64[N] best, float[N, 4] aside) {{
          scores = MatMul (x, W)
          probs = Softmax (scores)
          best = ArgMax <axis = 1, keepdims = 0> (probs)
          aside = Sin (x)
        }}""",
        {"W": (4, 3)},
    )
    result = applied(model, "cut_tail")
    assert op_types(result.model) == {"MatMul": 1, "Sin": 1}
    assert [value.name for value in result.model.graph.output] == ["scores", "aside"]
    scores = run_model(result.model)["scores"]
    np.testing.assert_array_equal(scores.argmax(1), run_model(model)["best"])
    assert result.report.quality is not None
    assert result.report.quality.sqnr_db.keys() == {"aside"}
    assert "outputs no longer there, so not compared: 'probs', 'best'" in result.report.messages


def test_log_softmax() -> None:
    pytest.importorskip("onnxscript")
    model = model_from_text(
        f"""{HEAD} g (float[N, 4] x) => (float[N, 3] y) {{
          [scores] h = MatMul (x, W)
          p = Softmax <axis = 1> (h)
          y = Log (p)
        }}""",
        {"W": (4, 3)},
    )
    result = applied(model, "log_softmax", ",lossless=true")
    assert op_types(result.model) == {"MatMul": 1, "LogSoftmax": 1}
    assert result.model.doc_string == "doc"
    np.testing.assert_allclose(run_model(result.model)["y"], run_model(model)["y"], rtol=1e-6)


def test_slim() -> None:
    pytest.importorskip("onnxslim")
    model = model_from_text(
        f"""{HEAD} g (float[N, 4] x) => (float[N, 3] y) {{
          a = Identity (x)
          h = MatMul (a, W)
          k = Identity (h)
          y = Relu (k)
        }}""",
        {"W": (4, 3)},
    )
    result = applied(model, "slim", ",lossless=true")
    assert op_types(result.model) == {"MatMul": 1, "Relu": 1}
    (record,) = result.report.passes
    lost = {edit.what for edit in record.changes if edit.node == "lost on the way"}
    assert "doc strings of the model (1)" in lost
    np.testing.assert_allclose(run_model(result.model)["y"], run_model(model)["y"], rtol=1e-6)
