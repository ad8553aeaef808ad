"""Which outputs are compared with what."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from graphopt.bridge.training import losses
from graphopt.bridge.training.criterion import Criterion, criterion, measured
from graphopt.contract.training import LossOptions
from graphopt.errors import DataError, ModelError, UsageError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.testing import model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
TWO = f"""{HEAD} net (float[N,6] x) => (float[N,5] y, float[N,6] e, int64[N] best) {{
  h = Add (x, bias)
  r = Relu (h)
  s = Add (r, x)
  y = Gemm (s, V)
  e = LpNormalization (s)
  best = ArgMax <axis = 1, keepdims = 0> (y)
}}"""


def graph_of(text: str = TWO) -> Graph:
    return io.load(model_from_text(text, {"V": (6, 5), "bias": (6,)}))


def answers(rows: int = 4, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "y": rng.normal(size=(rows, 5)).astype(np.float32),
        "e": rng.normal(size=(rows, 6)).astype(np.float32),
        "best": np.zeros(rows, np.int64),
    }


def tensors(found: dict[str, Array]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in found.items()}


def made(labels: Array | None = None, **changed: Any) -> Criterion:
    return criterion(LossOptions(**changed), graph_of(), graph_of(), answers(), labels)


def test_each_float_output_is_compared_by_its_kind() -> None:
    goal = made()
    assert goal.kinds == {"y": "logits", "e": "embedding"}
    assert goal.asked == ["y", "e"]
    mine, theirs = tensors(answers()), tensors(answers(seed=1))
    expected = (
        losses.divergence(mine["y"], theirs["y"], 4.0) + losses.cosine(mine["e"], theirs["e"])
    ) / 2
    assert torch.equal(goal.loss(mine, theirs, None), expected)


def test_the_form_may_be_said_for_all() -> None:
    mine, theirs = tensors(answers()), tensors(answers(seed=1))
    goal = measured(made(soft="mse"), mine, theirs)
    expected = [
        losses.relative_square(mine[n], theirs[n], float(theirs[n].double().square().mean()))
        for n in ("y", "e")
    ]
    assert torch.allclose(goal.loss(mine, theirs, None), torch.stack(expected).mean())


def test_parts_are_weighed_and_added() -> None:
    labels = np.array([0, 1, 4, 2])
    goal = made(labels, alpha=0.5, beta=2.0, gamma=3.0, features=("s",))
    mine = tensors(answers()) | {"s": torch.ones(4, 6)}
    theirs = tensors(answers(seed=1)) | {"s": torch.zeros(4, 6) + 2}
    assert goal.asked == ["y", "e", "s"]
    goal = measured(goal, mine, {name: theirs[name] for name in goal.asked})
    soft = made().loss(mine, theirs, None)
    hard = losses.cross_entropy(mine["y"], torch.from_numpy(labels))
    expected = 0.5 * hard + 2 * soft + 3 * 0.25
    assert torch.allclose(goal.loss(mine, theirs, torch.from_numpy(labels)), expected)


def test_labels_alone_decide_what_is_kept_and_without_them_the_loss() -> None:
    labels = np.array([0, 1, 4, 2])
    mine, theirs = tensors(answers()), tensors(answers(seed=1))
    found = made(labels, alpha=0.5).verdict(mine, theirs, torch.from_numpy(labels))
    assert torch.equal(found, losses.cross_entropy(mine["y"], torch.from_numpy(labels)))
    goal = made()
    assert torch.equal(goal.verdict(mine, theirs, None), goal.loss(mine, theirs, None))


def test_without_the_teacher_nothing_is_asked_of_it() -> None:
    goal = made(np.array([0, 1, 4, 2]), alpha=1.0, beta=0.0)
    assert goal.asked == []
    assert goal.metric == "accuracy %"


def test_probabilities_are_compared_as_the_logits_behind_them() -> None:
    text = f"{HEAD} net (float[N,6] x) => (float[N,5] y) {{ h = Gemm (x, V) y = Softmax (h) }}"
    raw = torch.randn(2, 4, 5)
    mine, theirs = ({"y": each.softmax(-1)} for each in raw)
    goal = criterion(LossOptions(), graph_of(text), graph_of(text), {"y": mine["y"].numpy()}, None)
    found = goal.loss(mine, theirs, None)
    assert torch.allclose(found, losses.divergence(raw[0], raw[1], 4.0), atol=1e-5)


def test_halves_of_a_teacher_are_squared_as_floats() -> None:
    mine = {"y": torch.zeros(2, 5), "e": torch.zeros(2, 6)}
    theirs = {"y": torch.full((2, 5), 6e4, dtype=torch.float16), "e": torch.ones(2, 6)}
    goal = measured(made(soft="mse"), mine, theirs)
    assert float(goal.loss(mine, theirs, None)) == pytest.approx(1)


def test_scores() -> None:
    mine, theirs = tensors(answers()), tensors(answers(seed=1))
    same = np.mean(answers()["y"].argmax(1) == answers(seed=1)["y"].argmax(1))
    goal = made()
    assert (goal.metric, goal.score(mine, theirs, None)) == ("agreement %", 100 * same)
    labels = answers()["y"].argmax(1)
    labels[0] = (labels[0] + 1) % 5
    goal = made(labels, alpha=1.0)
    assert goal.metric == "accuracy %"
    assert goal.score(mine, theirs, torch.from_numpy(labels)) == 75
    goal = made(soft="cosine")
    assert goal.metric == "cosine"
    cosine = torch.cosine_similarity(mine["y"], theirs["y"]).mean()
    assert goal.score(mine, theirs, None) == pytest.approx(float(cosine))
    assert made(soft="mse").metric == made(np.zeros((4, 5)), alpha=1.0).metric == ""


def test_labels_of_tokens_are_classes_each() -> None:
    text = f"{HEAD} net (float[N,3,6] x) => (float[N,3,5] y) {{ y = MatMul (x, V) }}"
    found = {"y": np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)}
    labels = found["y"].argmax(-1)
    goal = criterion(LossOptions(alpha=1.0), graph_of(text), graph_of(text), found, labels)
    mine = tensors(found)
    assert goal.score(mine, mine, torch.from_numpy(labels)) == 100
    rows = losses.cross_entropy(mine["y"].reshape(12, 5), torch.from_numpy(labels).reshape(12))
    assert torch.equal(goal.loss(mine, mine, torch.from_numpy(labels)), rows)


def test_float_labels_are_compared_with_the_output_of_their_size() -> None:
    labels = np.random.default_rng(0).normal(size=(4, 2, 3))
    goal = made(labels, alpha=1.0, beta=0.0)
    assert (goal.judged, goal.options.hard) == ("e", "mse")
    mine = tensors(answers())
    expected = (answers()["e"].reshape(4, 2, 3) - labels) ** 2
    found = goal.loss(mine, {}, torch.from_numpy(labels))
    assert float(found) == pytest.approx(expected.mean(), rel=1e-5)


def test_an_output_that_looks_like_an_embedding_holds_classes_if_that_is_said() -> None:
    found = {"e": answers()["e"]}
    labels = np.array([0, 5, 1, 2])
    given = LossOptions(alpha=1.0, hard="cross-entropy")
    assert criterion(given, graph_of(), graph_of(), found, labels).judged == "e"
    assert criterion(given, graph_of(), graph_of(), answers(), labels % 5).judged == "y"
    message = "fit no output for hard=cross-entropy; output 'e' could hold classes: say hard="
    with pytest.raises(DataError, match=message):
        criterion(LossOptions(alpha=1.0), graph_of(), graph_of(), found, labels)


@pytest.mark.parametrize(
    ("labels", "changed", "message"),
    [
        (None, {}, "the training data has no labels; add an array 'labels'"),
        (np.array([0, 5]), {}, "labels from 0 to 5 where output 'y' has 5 classes"),
        (np.array([-1, 2]), {}, "labels from -1 to 2 where output 'y' has 5 classes"),
        (
            np.array([0.5, 1]),
            {"hard": "cross-entropy"},
            "labels of type float64 are no class numbers",
        ),
        (np.zeros((4, 7)), {}, "labels of shape [4, 7] fit no output for hard=mse"),
        (np.zeros((4, 3), int), {}, "labels of shape [4, 3] fit no output for hard=cross-entropy"),
    ],
)
def test_labels_that_do_not_fit(labels: Any, changed: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        made(labels, alpha=1.0, **changed)


def test_blocks_stand_for_all_sums_of_branches() -> None:
    assert made(gamma=1.0, features=("blocks",)).taps == ("s",)
    assert made(gamma=0.0, features=("blocks",)).taps == ()


def test_features_that_a_model_lacks() -> None:
    other = graph_of(TWO.replace("s = Add (r, x)", "s = Sub (r, x)"))
    with pytest.raises(UsageError, match="share no residual sum; name tensors"):
        criterion(LossOptions(gamma=1, features=("blocks",)), graph_of(), other, answers(), None)
    other = graph_of(TWO.replace("r = ", "q = ").replace("(r, x)", "(q, x)"))
    for first, second, role in ((graph_of(), other, "teacher"), (other, graph_of(), "student")):
        with pytest.raises(UsageError, match=f"the {role} computes no tensor 'r'"):
            criterion(LossOptions(gamma=1, features=("r",)), first, second, answers(), None)


def test_a_model_without_float_outputs_has_nothing_to_train_by() -> None:
    with pytest.raises(ModelError, match="no output of floats"):
        criterion(LossOptions(), graph_of(), graph_of(), {"best": np.zeros(4, np.int64)}, None)


def test_a_teacher_of_other_shapes_is_refused() -> None:
    mine = tensors(answers())
    with pytest.raises(
        ModelError, match=r"tensor 'y' has shape \[4, 10\] in the teacher and \[4, 5\]"
    ):
        measured(made(), mine, {"y": torch.zeros(4, 10)})


def test_single_numbers_as_outputs_take_no_labels() -> None:
    found = {"y": np.array(1, np.float32), **{k: v for k, v in answers().items() if k == "e"}}
    goal = criterion(LossOptions(alpha=1), graph_of(), graph_of(), found, np.zeros((4, 6)))
    assert goal.judged == "e"
