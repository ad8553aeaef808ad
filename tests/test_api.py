"""The names of the package stay functions, whatever is imported and in which order."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
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


def noisy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with noise on its weights: a student."""
    student = onnx.ModelProto()
    student.CopyFrom(model)
    rng = np.random.default_rng(0)
    for tensor in student.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            changed = values + 1e-3 * rng.standard_normal(values.shape)
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed.astype(np.float32), tensor.name))
    return student


def test_a_result_can_be_measured_against_the_teacher() -> None:
    teacher = MODELS["mlp"]()
    result = graphopt.optimize(
        noisy(teacher), MaskWeights(sparsity=0.5), teacher=teacher, against_teacher=True
    )
    start, quality = result.report.start, result.report.quality
    assert start is not None
    assert start.quality is not None
    assert quality is not None
    assert quality.worst_db is not None
    assert start.quality.worst_db is not None
    assert quality.worst_db < start.quality.worst_db < 60
    plain = graphopt.optimize(teacher, "eliminate-dead")
    assert plain.report.start is None


def test_samples_take_the_batch_that_either_model_fixes() -> None:
    student, fixed = MODELS["mlp"](), MODELS["mlp"]()
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    (name,) = (value.name for value in student.graph.input)
    width = student.graph.input[0].type.tensor_type.shape.dim[-1].dim_value
    samples = {name: np.random.default_rng(0).standard_normal((5, width)).astype(np.float32)}
    result = graphopt.optimize(
        student, MaskWeights(), teacher=fixed, against_teacher=True, evaluation=samples
    )
    assert result.report.quality is not None
    assert result.report.quality.samples == 5


@pytest.mark.parametrize("given", ["training", "teacher", "checkpoints"])
def test_what_only_training_uses_is_not_taken_in_vain(given: str) -> None:
    model = MODELS["mlp"]()
    values: dict[str, Any] = {"training": {"x": np.zeros(1)}, "teacher": model, "checkpoints": "d"}
    name = {"training": "train"}.get(given, given)
    for passes in (None, MaskWeights()):
        with pytest.raises(graphopt.GraphoptError, match=f"--{name} is given and no pass trains"):
            graphopt.optimize(model, passes, **{given: values[given]})


def test_labels_without_weight_are_refused() -> None:
    with pytest.raises(graphopt.GraphoptError, match="alpha=0 gives them no weight"):
        graphopt.distill("a.onnx", "b.onnx", "c.npz", labels=True, alpha=0.0)


def test_an_unknown_option_of_distill_names_the_near_one() -> None:
    with pytest.raises(graphopt.GraphoptError, match="did you mean 'temperature'"):
        graphopt.distill("a.onnx", "b.onnx", "c.npz", temprature=2.0)
