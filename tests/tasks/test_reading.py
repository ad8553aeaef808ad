"""What outputs are read as, of small graphs, with and without answers."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest
from onnx import parser

from graphopt.errors import UsageError
from graphopt.facts import shapes
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.tasks.reading import read_tasks
from graphopt.tasks.task import Task, TaskKind

# ruff: noqa: E501
RNG = np.random.default_rng(0)
LINE = "float[n, 8] x"
PICTURE = "float[n, 3, 8, 8] x"
DENSE = "<float[8, 5] w = {" + ", ".join(["0.5"] * 40) + "}>"
DEEP = "<float[4, 3, 1, 1] w = {" + ", ".join(["0.5"] * 12) + "}>"


def tasks(
    ports: str,
    body: str,
    *,
    answers: list[Mapping[str, Array]] | None = None,
    given: Mapping[str, Task] | None = None,
    opset: int = 17,
) -> dict[str, Task]:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g {ports} {body}'
    graph = Graph(parser.parse_model(text))
    return read_tasks(graph, shapes.infer(graph), answers or [], given)


def read(ports: str, body: str, **more: object) -> str:
    (task,) = tasks(ports, body, **more).values()  # type: ignore[arg-type]
    return str(task)


GRAPHS = {
    **{
        f"{scale} of a sigmoid": (
            f"({LINE}) => (float[n, 5] y)",
            DENSE.replace(">", f", {constant}>") + f"{{ s = MatMul(x, w) p = Sigmoid(s) y = {made} }}",
            meaning,
        )
        for scale, constant, made, meaning in (
            ("32 times", "float c = {32}", "Mul(p, c)", "numbers along axis 1"),
            ("a half", "float c = {2}", "Div(p, c)", "scores of several labels (probabilities) along axis 1"),
            ("what lacks to one", "float c = {1}", "Sub(c, p)", "scores of several labels (probabilities) along axis 1"),
            ("one more", "float c = {1}", "Add(p, c)", "numbers along axis 1"),
            ("the inverse", "float c = {1}", "Div(c, p)", "numbers along axis 1"),
            ("the inverse from above", "float c = {0}", "Div(p, c)", "numbers along axis 1"),
        )
    },
    "softmax": (f"({LINE}) => (float[n, 8] y)", "{ y = Softmax(x) }", "class scores (probabilities) along axis 1"),
    "softmax of pixels": (
        f"({PICTURE}) => (float[n, 4, 8, 8] y)",
        DEEP + "{ s = Conv(x, w) y = Softmax<axis = 1>(s) }",
        "class scores (probabilities) along axis 1",
    ),
    "softmax, then channels last": (
        f"({PICTURE}) => (float[n, 8, 8, 4] y)",
        DEEP + "{ s = Conv(x, w) p = Softmax<axis = 1>(s) y = Transpose<perm = [0, 2, 3, 1]>(p) }",
        "class scores (probabilities) along axis 3",
    ),
    "log-softmax": (f"({LINE}) => (float[n, 8] y)", "{ y = LogSoftmax(x) }", "class scores (log-probabilities) along axis 1"),
    "sums that are called probabilities": (f"({LINE}) => (float[n, 5] probs)", DENSE + "{ probs = MatMul(x, w) }", "numbers along axis 1"),
    "several sigmoids": (f"({LINE}) => (float[n, 5] y)", DENSE + "{ s = MatMul(x, w) y = Sigmoid(s) }", "scores of several labels (probabilities) along axis 1"),
    "one sigmoid": (f"({LINE}) => (float[n, 1] y)", "{ s = ReduceSum(x) y = Sigmoid(s) }".replace("ReduceSum(x)", "ReduceMax<axes = [1]>(x)"), "yes-or-no scores (probabilities)"),
    "selected numbers of things": (
        "(float[1, 9, 4] b, float[1, 3, 9] s) => (int64[k] y)",
        "<int64 one = {1}> { p = NonMaxSuppression(b, s) y = Gather<axis = 1>(p, one) }",
        "integers that number things, as many as the data has",
    ),
    "looked up numbers of things": (f"({LINE}) => (int64[n] y)", "<int64[3] names = {7, 8, 9}> { a = ArgMax<axis = 1, keepdims = 0>(x) y = Gather(names, a) }", "integers that number things"),
    "selected scores": (f"({LINE}) => (float[k] y)", DENSE + "{ s = MatMul(x, w) p = Sigmoid(s) z = NonZero(p) t = Transpose(z) y = GatherND(p, t) }", "yes-or-no scores (probabilities), as many as the data has"),
    "rounded floats": (f"({LINE}) => (int32[n, 8] y)", "{ r = Round(x) y = Cast<to = 6>(r) }", "numbers"),
    "a regressor": (f"({LINE}) => (float[n, 5] y)", DENSE + "{ y = MatMul(x, w) }", "numbers along axis 1"),
    "a name at the end": (f"({LINE}) => (float[n, 5] logits)", DENSE + "{ logits = MatMul(x, w) }", "class scores (logits) along axis 1"),
    "a name of pixels": (f"({PICTURE}) => (float[n, 4, 8, 8] logits)", DEEP + "{ logits = Conv(x, w) }", "class scores (logits) along axis 1"),
    "a name that the end gainsays": (f"({LINE}) => (float[n, 8] logits)", "{ logits = Relu(x) }", "numbers along axis 1"),
    "boxes": (f"({LINE}) => (float[n, 2, 4] boxes)", "<int64[3] s = {-1, 2, 4}> { boxes = Reshape(x, s) }", "boxes along axis 2"),
    "boxes of another width": (f"({LINE}) => (float[n, 4, 2] boxes)", "<int64[3] s = {-1, 4, 2}> { boxes = Reshape(x, s) }", "numbers along axis 2"),
    "halves of boxes": (
        f"({LINE}) => (float[n, 4] boxes)",
        "<float[8, 2] w = {" + ", ".join(["0.5"] * 16) + "}> { a = MatMul(x, w) b = Sigmoid(a) c = Exp(a) d = Add(b, c) boxes = Concat<axis = 1>(b, d) }",
        "boxes along axis 1",
    ),
    "a sigmoid of four that the name says to be boxes": (f"({LINE}) => (float[n, 4] pred_boxes)", DENSE.replace("8, 5", "8, 4").replace(", 0.5" * 8, "", 1) + "{ s = MatMul(x, w) pred_boxes = Sigmoid(s) }", "boxes along axis 1"),
    "a sigmoid of four that the name says to be classes": (f"({LINE}) => (float[n, 4] box_cls)", DENSE.replace("8, 5", "8, 4").replace(", 0.5" * 8, "", 1) + "{ s = MatMul(x, w) box_cls = Sigmoid(s) }", "scores of several labels (probabilities) along axis 1"),
    "a number and its class": (f"({LINE}) => (float[n, 2] y)", "{ a = ReduceMax<axes = [1]>(x) i = ArgMax<axis = 1>(x) f = Cast<to = 1>(i) y = Concat<axis = 1>(a, f) }", "packed detections along axis 1"),
    "packed": (f"({LINE}) => (float[n, 16] y)", "{ a = Exp(x) b = Sigmoid(x) y = Concat<axis = 1>(a, b) }", "packed detections along axis 1"),
    "an index": (f"({LINE}) => (int64[n, 1] y)", "{ y = ArgMax<axis = 1>(x) }", "integers that number things"),
    "places of a node with other results": (f"({LINE}) => (int64[n, 3] y)", "<int64[1] k = {3}> { v, i = TopK(x, k) y = Identity(i) }", "integers that number things"),
    "rounded": (f"({LINE}) => (uint8[n, 5] y)", DENSE + "{ s = MatMul(x, w) y = Cast<to = 2>(s) }", "numbers along axis 1"),
    "a mask": (f"({LINE}) => (bool[n, 8] y)", "{ y = IsNaN(x) }", "a mask"),
    "rows by values": (f"({LINE}) => (int64[2, k] y)", "{ y = NonZero(x) }", "integers that number things, as many as the data has"),
    "sizes by shapes": (f"({LINE}) => (int64[1, k] y)", "{ s = Shape(x) o = ConstantOfShape(s) y = NonZero(o) }".replace("y = NonZero(o)", "f = Flatten<axis = 0>(o) y = ArgMax<axis = 1>(f)"), "integers that number things"),
    "unit length": (f"({LINE}) => (float[n, 8] y)", "{ y = LpNormalization(x) }", "an embedding along axis 1"),
    "divided by its length": (f"({LINE}) => (float[n, 8] y)", "{ l = ReduceL2<axes = [1]>(x) y = Div(x, l) }", "an embedding along axis 1"),
    "a sequence": (f"({LINE}) => (seq(float) y)", "{ y = SequenceConstruct(x) }", "a sequence, map or optional"),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_the_end_of_a_graph_says_what_its_output_is(name: str) -> None:
    ports, body, words = GRAPHS[name]
    assert read(ports, body) == words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (RNG.dirichlet(np.ones(5), 6), "class scores (probabilities) along axis 1"),
        (RNG.standard_normal((6, 5)), "numbers along axis 1"),
        (np.eye(5)[[0, 1, 1, 4]] * -1, "an embedding along axis 1"),
    ],
)
def test_answers_tell_what_the_graph_leaves_open(values: Array, words: str) -> None:
    body = DENSE + "{ y = MatMul(x, w) }"
    assert read(f"({LINE}) => (float[n, 5] y)", body, answers=[{"y": values}]) == words


@pytest.mark.parametrize(
    ("inputs", "output", "fed_to"),
    [
        ("float[n, 8] x, float[n, 8] h", "h_out", "h"),
        ("float[n, 8] x, float[n, 8] past_key_values_0_key", "present_0_key", "past_key_values_0_key"),
        ("float[n, 8] x, float[n, 8] state_in", "state_out", "state_in"),
        ("float[n, 8] x, float[n, 8] guide", "result", ""),
        ("float[n, 8] x, float[n, 4] h", "h_out", ""),
        ("float[n, 8] h", "h_out", ""),
    ],
)  # fmt: skip
def test_a_state_is_what_an_input_of_its_role_takes(inputs: str, output: str, fed_to: str) -> None:
    first = re.split(r"[ ,]+", inputs)[2]
    (task,) = tasks(
        f"({inputs}) => (float[n, 8] {output})", f"{{ {output} = Tanh({first}) }}"
    ).values()
    assert (task.kind == "state", task.fed_to) == (bool(fed_to), fed_to)


def test_the_state_of_a_recurrent_layer_needs_no_name() -> None:
    weights = "<float[1, 4, 8] w, float[1, 4, 4] r>"
    weights = weights.replace("w,", "w = {" + ", ".join(["0.1"] * 32) + "},")
    weights = weights.replace("r>", "r = {" + ", ".join(["0.1"] * 16) + "}>")
    body = weights + "{ y, z = RNN<hidden_size = 4>(x, w, r, , , a) }"
    found = tasks(
        "(float[s, 1, 8] x, float[1, 1, 4] a) => (float[s, 1, 1, 4] y, float[1, 1, 4] z)", body
    )
    assert found["z"].fed_to == "a"
    assert found["y"].kind == "regression"


def test_the_users_word_overrides_and_is_completed() -> None:
    ports, body = f"({LINE}) => (float[n, 5] logits)", DENSE + "{ logits = MatMul(x, w) }"
    given = {"logits": Task("logits", "multi-label")}
    (task,) = tasks(ports, body, given=given).values()
    assert (task.kind, task.axis, task.form, task.given) == ("multi-label", 1, "logits", True)
    assert task.threshold == 0


def test_sums_of_a_layer_are_logits_though_all_lie_from_zero_to_one() -> None:
    ports = f"({LINE}) => (float[n, 5] y)"
    seen: list[Mapping[str, Array]] = [{"y": np.zeros((3, 5), np.float32)}]
    word = {"y": Task("y", "multi-label")}
    summed = tasks(ports, DENSE + "{ y = MatMul(x, w) }", answers=seen, given=word)
    bounded = tasks(ports, DENSE + "{ s = MatMul(x, w) y = Relu(s) }", answers=seen, given=word)
    assert (summed["y"].form, bounded["y"].form) == ("logits", "probabilities")


def test_a_word_on_an_output_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no output 'logit'; did you mean 'logits'"):
        tasks(
            f"({LINE}) => (float[n, 5] logits)",
            DENSE + "{ logits = MatMul(x, w) }",
            given={"logit": Task("logit", "classes")},
        )


def test_an_axis_that_the_output_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="output 'logits' has 2 axes, so none is number 7"):
        tasks(
            f"({LINE}) => (float[n, 5] logits)",
            DENSE + "{ logits = MatMul(x, w) }",
            answers=[{"logits": RNG.standard_normal((2, 5))}],
            given={"logits": Task("logits", "classes", axis=7)},
        )


SELECTED = (
    "(float[n, 6] x) => (float[k, 6] y)",
    "<float half = {0.5}> { s = ReduceMax<axes = [1], keepdims = 0>(x) m = Greater(s, half) y = Compress<axis = 0>(x, m) }",
)


def _packed(rows: int) -> Array:
    low = RNG.uniform(0, 90, (rows, 2))
    shares, classes = RNG.uniform(0.1, 0.9, (rows, 1)), RNG.integers(0, 9, (rows, 1))
    return np.concatenate([low, low + 5, shares, classes], axis=1, dtype=np.float32)


@pytest.mark.parametrize(
    ("rows", "word", "meaning"),
    [
        ([7, 0, 5], None, "packed detections (box in columns 0 to 3, score in 4, class in 5)"),
        ([0, 0], None, "numbers"),
        ([3], "detections", "packed detections (box in columns 0 to 3, score in 4, class in 5)"),
        ([7], "regression", "numbers"),
    ],
)
def test_rows_that_hold_boxes_are_told_by_their_values(
    rows: list[int], word: TaskKind | None, meaning: str
) -> None:
    seen: list[Mapping[str, Array]] = [{"y": _packed(count)} for count in rows]
    given = {} if word is None else {"y": Task("y", word)}
    (task,) = tasks(*SELECTED, answers=seen, given=given).values()
    assert str(task) == f"{meaning} along axis 1, as many as the data has"
    assert (task.columns is None) == (meaning == "numbers")
