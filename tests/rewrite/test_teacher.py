"""A teacher under its student's names, or one line that says what does not fit."""

from __future__ import annotations

import onnx.parser
import pytest

from graphopt.errors import ModelError, UsageError
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
    found = fitted(teacher, STUDENT)
    assert found.graph is teacher
    assert found.told == []


def test_other_names_are_matched_in_order_on_a_copy() -> None:
    teacher = model("float[1,8] picture", "float[1,8] scores")
    found = fitted(teacher, STUDENT).graph
    assert (found.main.inputs, found.main.outputs) == (["x"], ["y"])
    assert (teacher.main.inputs, teacher.main.outputs) == (["picture"], ["scores"])


def test_common_names_go_before_the_order() -> None:
    student = model("float[N,8] ids, float[N,8] mask", "float[N,8] y")
    teacher = model("float[N,8] mask, float[N,8] tokens", "float[N,8] y")
    found = fitted(teacher, student).graph
    assert found.main.inputs == ["mask", "ids"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        (
            "float[N,8] x",
            "float[N,10] scores",
            r"outputs: 'y' float\[\?, 8\] of the student, 'scores' float\[\?, 10\] of the teacher",
        ),
        (
            "float[N,8] x",
            "float[N,8] z, float[N,8] v",
            r"outputs: .*'v' float.* of the teacher; say",
        ),
        ("float[N,8] x", "double[N,8] y", r"outputs: .*'y' double\[\?, 8\] of the teacher"),
        ("float[N,8] x, float[N,8] m", "float[N,8] y", r"inputs: .*'m' float.* of the teacher"),
        ("float[N,2,4] x", "float[N,8] y", r"inputs: .*'x' float\[\?, 2, 4\] of the teacher"),
    ],
)
def test_what_does_not_fit_is_named_on_both_sides(inputs: str, outputs: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        fitted(model(inputs, outputs), STUDENT)
    assert str(caught.value).startswith("student and teacher differ in their ")


def test_further_outputs_of_the_teacher_are_left_out_and_told() -> None:
    teacher = model("float[N,8] x", "float[N,8] hidden, float[N,8] y, float[N,8] aside")
    found = fitted(teacher, STUDENT)
    assert found.graph.main.outputs == ["y"]
    assert found.graph.main.producer("hidden") is not None, "features may still name it"
    assert found.told == [
        "outputs of the teacher that the student has not are left out: 'hidden', 'aside'"
    ]
    assert teacher.main.outputs == ["hidden", "y", "aside"]


TWO = model("float[N,8] x", "float[N,8] y, float[N,1] z")


@pytest.mark.parametrize(
    ("outputs", "pairs", "expected"),
    [
        ("float[N,1] b, float[N,8] a", (), ["z", "y"]),
        ("float[N,1] b, float[N,8] a, float[N,3] c", (), ["z", "y"]),
        ("float[N,8] z, float[N,1] y", ("y=z", "z=y"), ["y", "z"]),
        ("float[N,8] a, float[N,8] b, float[N,1] c", ("y=b",), ["y", "z"]),
        ("float[N,?] a, float[N,8] b", (), ["z", "y"]),
    ],
)
def test_outputs_are_paired_by_name_by_fit_or_by_the_users_word(
    outputs: str, pairs: tuple[str, ...], expected: list[str]
) -> None:
    found = fitted(model("float[N,8] x", outputs), TWO, pairs)
    assert found.graph.main.outputs == expected


@pytest.mark.parametrize(
    ("outputs", "pairs", "error", "words"),
    [
        ("float[N,8] a, float[N,8] b, float[N,1] c", (), ModelError, "pair=STUDENT=TEACHER"),
        ("float[N,8] a", (), ModelError, "outputs: 'y' float"),
        ("float[N,8] a, float[N,1] b", ("y=b",), ModelError, "differ in their outputs"),
        ("float[N,8] a, float[N,1] b", ("y",), UsageError, "'y' must be STUDENT=TEACHER"),
        ("float[N,8] a, float[N,1] b", ("u=a",), UsageError, "the student has no output 'u'"),
        ("float[N,8] abc, float[N,1] b", ("y=abd",), UsageError, "did you mean 'abc'"),
        ("float[N,8] a, float[N,1] b", ("y=a", "z=a"), UsageError, "for the second time"),
    ],
)
def test_pairs_that_cannot_be_are_refused(
    outputs: str, pairs: tuple[str, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        fitted(model("float[N,8] x", outputs), TWO, pairs)
