"""The names of the package stay functions, whatever is imported and in which order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphopt
from graphopt.passes.prune import MaskWeights
from graphopt.testing import MODELS


def test_the_first_use_loads_the_module() -> None:
    script = (
        "import sys, graphopt; assert 'graphopt.commands.bench' not in sys.modules; "
        "assert callable(graphopt.bench); assert callable(graphopt.bench); "
        "assert callable(graphopt.optimize) and graphopt.Result.__name__ == 'Result'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="'graphopt' has no attribute 'nothing'"):
        _ = graphopt.nothing


def test_errors_of_the_user_can_be_caught_by_one_name() -> None:
    with pytest.raises(graphopt.GraphoptError, match="no such file"):
        graphopt.optimize("missing.onnx")


def test_one_pass_alone_is_the_same_as_a_list_of_it() -> None:
    item, model = MaskWeights(sparsity=0.5), MODELS["mlp"]()
    alone, listed = graphopt.optimize(model, item), graphopt.optimize(model, [item])
    assert alone.model.graph == listed.model.graph
    assert [record.name for record in alone.report.passes] == ["mask-weights"]


@pytest.mark.parametrize("wrong", [["mask-weights"], [MaskWeights], [None]])
def test_what_is_no_pass_is_refused(wrong: list[object]) -> None:
    with pytest.raises(graphopt.GraphoptError, match="is no pass"):
        graphopt.optimize(MODELS["mlp"](), wrong)  # type: ignore[arg-type]  # on purpose


def test_settings_come_grouped_or_one_by_one() -> None:
    model = MODELS["mlp"]()
    grouped = graphopt.optimize(
        model,
        MaskWeights(),
        limits=graphopt.Limits(min_sqnr_db=300.0),
        machine=graphopt.Machine(target="arm", threads=1),
    )
    single = graphopt.optimize(
        model,
        MaskWeights(),
        limits=graphopt.Limits(min_sqnr_db=1.0),
        min_sqnr_db=300.0,
        target="arm",
        threads=1,
    )
    for result in (grouped, single):
        assert result.report.environment.target == "arm"
        assert [limit.asked for limit in result.report.limits] == [300.0]
        assert result.report.passes[0].status == "rolled back"
    with pytest.raises(TypeError, match="unexpected keyword argument 'thread'"):
        graphopt.optimize(model, MaskWeights(), thread=1)  # type: ignore[call-arg]


def test_a_saved_result_tells_of_its_file(tmp_path: Path) -> None:
    result = graphopt.optimize(MODELS["mlp"](), MaskWeights(), threads=1)
    saved = result.save(tmp_path / "out.onnx")
    output = saved.report.output
    assert output is not None
    assert output.path == str(tmp_path / "out.onnx")
    assert output.bytes == (tmp_path / "out.onnx").stat().st_size
    assert output.sha256
    assert result.report.output is not None
    assert result.report.output.path is None


@pytest.mark.parametrize("given", ["training", "teacher", "checkpoints"])
def test_what_only_training_uses_is_not_taken_in_vain(given: str) -> None:
    model = MODELS["mlp"]()
    values: dict[str, Any] = {"training": {"x": np.zeros(1)}, "teacher": model, "checkpoints": "d"}
    with pytest.raises(graphopt.GraphoptError, match=f"^{given} is given and no pass trains"):
        graphopt.optimize(model, MaskWeights(), **{given: values[given]})
    words = f"^{given} is given(; auto trains towards|, and auto trains only what a limit)"
    with pytest.raises(graphopt.GraphoptError, match=words):
        graphopt.optimize(model, **{given: values[given]})


def test_labels_without_weight_are_refused() -> None:
    with pytest.raises(graphopt.GraphoptError, match="alpha=0 gives them no weight"):
        graphopt.distill("a.onnx", "b.onnx", "c.npz", labels=True, alpha=0.0)


def test_an_unknown_option_of_distill_names_the_near_one() -> None:
    with pytest.raises(graphopt.GraphoptError, match="did you mean 'temperature'"):
        graphopt.distill("a.onnx", "b.onnx", "c.npz", temprature=2.0)
