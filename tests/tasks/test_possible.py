"""What the user may say of outputs, by their types, shapes and answers."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from graphopt.errors import UsageError
from graphopt.facts import shapes
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.tasks.possible import possible_tasks
from graphopt.tasks.reading import read_tasks
from graphopt.tasks.task import Task
from graphopt.tasks.words import parse_tasks

CELL = """g (float[N,3] x, float[1,N,4] h, float[1,N,4] c, float[2,5,4] k) => (
  float[N,4] y, float[1,N,4] next, float[N] one, float[] mean, int64[N] best, bool[N,4] yes,
  string[N] text, seq(float[N,4]) many) <float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12},
  int64[1] last = {1}> {
  y = MatMul (x, w)
  both = Add (h, c)
  all = ReduceMean <keepdims = 0> (k)
  next = Add (both, all)
  one = ReduceSum <keepdims = 0> (y, last)
  mean = ReduceMean <keepdims = 0> (y)
  best = ArgMax <axis = 1, keepdims = 0> (y)
  yes = Greater (y, all)
  text = Cast <to = 8> (best)
  many = SequenceConstruct (y, y)
}"""
ALL = "one of classes, binary, multi-label, regression, embedding, indices, mask, boxes, detections"


def possible(text: str, *answers: dict[str, Array], words: str) -> dict[str, Task]:
    graph = Graph(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'))
    given = parse_tasks(words)
    found = possible_tasks(graph, shapes.infer(graph), answers, given)
    return read_tasks(graph, shapes.infer(graph), answers, found)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("y=texts", f"output 'y' is float[?, 4] and cannot be texts; say {ALL}, state"),
        ("y=container", "output 'y' is float[?, 4] and cannot be container; say one of"),
        ("text=classes", "output 'text' is string[?] and cannot be classes; say one of texts"),
        ("many=regression", "output 'many' is a sequence and cannot be regression; say one of"),
        ("yes=embedding", "output 'yes' is bool[?, 4] and cannot be embedding; say one of classes"),
        ("y=state", "output 'y' is no state, since no input is float[?, 4] as it is"),
        ("next=state", "inputs 'h', 'c' could each take output 'next'; say which, as next=state:h"),
        ("next=state:x", "input 'x' cannot take output 'next', float[1, ?, 4]; what can is 'h',"),
        ("y=classes:0", "'y' has along axis 0 as many entries as input 'x' has samples or places"),
        ("y=multi-label:0", "so multi-label do not lie there"),
        ("y=classes:2", "output 'y' has 2 axes, so none is number 2"),
        ("next=classes:0", "'next' has one entry along axis 0, and one class tells nothing apart"),
        ("next=boxes:0", "output 'next' has 1 entries along axis 0, and boxes have 4 coordinates"),
        ("one=classes:0", "'one' has along axis 0 as many entries as input 'x' has"),
        ("mean=classes", "output 'mean' has no axes along which classes could lie"),
        ("y=regression:logits", "'y': logits are a form of scores, of classes, binary,"),
        ("y=classes:probabilities", "output 'y' goes from -2 to 3, so these are no prob"),
        ("y=classes:log-probabilities", "goes from -2 to 3, so these are no log-probabilities"),
    ],
)
def test_what_an_output_cannot_be_is_refused(words: str, told: str) -> None:
    answers = {"y": np.array([[-2, 0, 1, 3]], np.float32)}
    with pytest.raises(UsageError) as caught:
        possible(CELL, answers, words=words)
    assert str(caught.value).startswith("task: ")
    assert told in str(caught.value)


def test_what_it_can_be_is_taken() -> None:
    words = "next=state:c,y=classes:1,yes=multi-label,best=indices,text=texts,many=container"
    found = possible(CELL, words=words)
    assert (found["next"].kind, found["next"].fed_to) == ("state", "c")
    assert {name: str(task) for name, task in found.items() if task.given} == {
        "next": "a state along axis 2 that input 'c' takes",
        "y": "class scores (logits) along axis 1",
        "yes": "scores of several labels (logits)",
        "best": "integers that number things",
        "text": "strings",
        "many": "a sequence, map or optional",
    }


def test_a_state_goes_to_the_only_input_that_takes_it() -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { y = Tanh (x) }"
    assert possible(text, words="y=state")["y"].fed_to == "x"
    assert possible(text, words="y=state:x")["y"].fed_to == "x"


def test_axes_of_no_name_that_lead_count_samples() -> None:
    text = "g (float[?,4] x) => (float[?,4] y) { y = Tanh (x) }"
    with pytest.raises(UsageError, match="axis 0 as many entries as input 'x'"):
        possible(text, words="y=classes:0")


def test_values_of_a_rank_that_nothing_declares_are_looked_at() -> None:
    text = "g (float[N,4] x, int64[R] s) => (float y) { y = Reshape (x, s) }"
    with pytest.raises(UsageError, match="'y' has 2 axes, so none is number 3"):
        possible(text, {"y": np.zeros((2, 2), np.float32)}, words="y=classes:3")
