"""Students and teachers that answer in other forms, by other names, with more outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.graph import io
from graphopt.graph.tensors import Array
from graphopt.runtime.session import Session
from graphopt.testing import model_from_text

RNG = np.random.default_rng(0)
X = RNG.standard_normal((600, 8)).astype(np.float32)


def net(name: str, end: str, hidden: int, seed: int, *, shown: bool = False) -> onnx.ModelProto:
    outputs = f"float[N,5] {name}" + (f", float[N,{hidden}] r" if shown else "")
    text = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[N,8] x) => ({outputs}) {{
      h = Gemm (x, W)
      r = Relu (h)
      s = Gemm (r, V)
      {name} = {end} (s)
    }}"""
    shapes = {"W": (8, hidden), "V": (hidden, 5)}
    return model_from_text(text, shapes, seed=seed)


def answers(model: Any, name: str) -> Array:
    return np.asarray(Session(io.load(model), threads=1).run({"x": X})[name], np.float64)


def shares(values: Array, end: str) -> Array:
    if end in ("Softmax", "Sigmoid"):
        return values
    powers = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def taught(student: Any, teacher: Any, **options: Any) -> graphopt.Result:
    return graphopt.distill(
        student, teacher, {"x": X}, steps=150, batch=64, lr=0.02, threads=1, trial=False, **options
    )


@pytest.mark.parametrize(
    ("mine", "theirs"), [("Identity", "Softmax"), ("Softmax", "Identity"), ("Softmax", "Softmax")]
)
def test_distributions_come_near_whatever_form_they_have(mine: str, theirs: str) -> None:
    student, teacher = net("logits", mine, 24, 1), net("scores", theirs, 12, 0, shown=True)
    result = taught(student, teacher)
    wanted = shares(answers(teacher, "scores"), theirs)
    before, after = (
        np.abs(shares(answers(model, "logits"), mine) - wanted).sum(1).mean()
        for model in (student, result.model)
    )
    assert after < 0.35 * before
    told = "\n".join(result.report.messages)
    assert "outputs of the teacher that the student has not are left out: 'r'" in told
    forms = {"Identity": "logits", "Softmax": "probabilities"}
    words = (
        f"output 'logits' holds {forms[theirs]} of the teacher and {forms[mine]} of the student: "
        "both are compared as probabilities"
    )
    assert (words in told) == (mine != theirs)
    curves = result.report.passes[0].curves
    assert curves is not None
    assert curves.metric == "agreement %"


def test_numbers_are_taught_with_their_scale_and_offset() -> None:
    student, teacher = net("y", "Identity", 24, 1), net("y", "Identity", 12, 0)
    for tensor in teacher.graph.initializer:
        if tensor.name == "V":  # one column is a hundred times as large as the others
            values = onnx.numpy_helper.to_array(tensor) * np.array([100, 1, 1, 1, 1], np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, "V"))
    for tensor in student.graph.initializer:
        if tensor.name == "V":
            values = onnx.numpy_helper.to_array(tensor) * np.array([90, 1, 1, 1, 1], np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, "V"))
    result = taught(student, teacher)
    found, wanted = answers(result.model, "y"), answers(teacher, "y")
    r2 = 1 - ((found - wanted) ** 2).sum(0) / ((wanted - wanted.mean(0)) ** 2).sum(0)
    curves = result.report.passes[0].curves
    assert curves is not None
    assert curves.metric == "R2"
    assert r2[0] > 0.5
    assert curves.scores[-1][1] > curves.scores[0][1]
