"""The names of the package stay functions, whatever is imported and in which order."""

from __future__ import annotations

import subprocess
import sys

import pytest

import graphopt
from graphopt.passes.prune import MaskWeights
from graphopt.testing import MODELS


@pytest.mark.parametrize("name", ["bench", "compare", "distill", "inspect", "optimize"])
def test_a_function_is_not_hidden_by_its_module(name: str) -> None:
    script = (
        f"import graphopt, graphopt.{name}; from graphopt.{name} import {name} as function; "
        f"assert graphopt.{name} is function; assert graphopt.{name} is function; "
        f"from graphopt import {name}; assert {name} is function"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_first_use_loads_the_module() -> None:
    script = (
        "import sys, graphopt; assert 'graphopt.bench' not in sys.modules; "
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
