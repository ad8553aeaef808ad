"""A teacher under its student's names, or one line that says what does not fit."""

from __future__ import annotations

import onnx.parser
import pytest

from graphopt.errors import ModelError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.rewrite.teacher import fitted


def model(inputs: str, outputs: str) -> Graph:
    names = [part.split()[-1] for part in outputs.split(", ") if part]
    source = inputs.partition(", ")[0].split()[-1]
    nodes = "\n".join(f"{name} = Relu ({source})" for name in names)
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {nodes} }}'
    return io.load(onnx.parser.parse_model(text))


STUDENT = model("float[N,8] x", "float[N,8] y")


def test_the_same_names_need_no_copy() -> None:
    teacher = model("float[batch,8] x", "float[batch,8] y")
    assert fitted(teacher, STUDENT) is teacher


def test_other_names_are_matched_in_order_on_a_copy() -> None:
    teacher = model("float[1,8] picture", "float[1,8] scores")
    found = fitted(teacher, STUDENT)
    assert (found.main.inputs, found.main.outputs) == (["x"], ["y"])
    assert (teacher.main.inputs, teacher.main.outputs) == (["picture"], ["scores"])


def test_common_names_go_before_the_order() -> None:
    student = model("float[N,8] ids, float[N,8] mask", "float[N,8] y")
    teacher = model("float[N,8] mask, float[N,8] tokens", "float[N,8] y")
    found = fitted(teacher, student)
    assert found.main.inputs == ["mask", "ids"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        (
            "float[N,8] x",
            "float[N,10] scores",
            r"outputs: 'y' float\[\?, 8\] of the student, 'scores' float\[\?, 10\] of the teacher",
        ),
        ("float[N,8] x", "float[N,8] y, float[N,8] z", r"outputs: .*'z' float.* of the teacher"),
        ("float[N,8] x", "double[N,8] y", r"outputs: .*'y' double\[\?, 8\] of the teacher"),
        ("float[N,8] x, float[N,8] m", "float[N,8] y", r"inputs: .*'m' float.* of the teacher"),
        ("float[N,2,4] x", "float[N,8] y", r"inputs: .*'x' float\[\?, 2, 4\] of the teacher"),
    ],
)
def test_what_does_not_fit_is_named_on_both_sides(inputs: str, outputs: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        fitted(model(inputs, outputs), STUDENT)
    assert str(caught.value).startswith("student and teacher differ in their ")
