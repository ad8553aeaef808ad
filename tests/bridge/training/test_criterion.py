"""Which outputs are compared with what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from graphopt.bridge.training import losses
from graphopt.bridge.training.criterion import Criterion, criterion, measured
from graphopt.bridge.training.judged import judged_by, shown_by
from graphopt.bridge.training.kinds import float_tasks
from graphopt.contract.training import LossOptions
from graphopt.errors import ModelError, UsageError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.tasks.task import Task
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


CLASSES = Task("y", "classes", 1, "logits")
VECTORS = Task("e", "embedding", 1)
TASKS = {"y": CLASSES, "e": VECTORS}
MODELS = (graph_of(), graph_of())


def made(labels: Array | None = None, tasks: Any = None, **changed: Any) -> Criterion:
    options = LossOptions(**changed)
    meant = tasks or TASKS
    judged = None
    if labels is not None:
        name, found, _ = judged_by(labels, meant, answers(), options)
        judged = name, found
    return criterion(options, *MODELS, meant, judged)


def score(goal: Criterion, *given: Any) -> float:
    scoring = goal.scoring
    assert scoring is not None
    return scoring.figure.value(scoring.counts(*given))


def test_each_float_output_is_compared_by_what_it_means() -> None:
    goal = made()
    assert goal.asked == ["y", "e"]
    mine, theirs = tensors(answers()), tensors(answers(seed=1))
    expected = (
        losses.divergence(mine["y"], theirs["y"], 4.0) + losses.cosine(mine["e"], theirs["e"])
    ) / 2
    assert torch.equal(goal.loss(mine, theirs, None), expected)


def test_labels_that_do_not_exclude_each_other_are_compared_one_by_one() -> None:
    mine, theirs = tensors(answers()), tensors(answers(seed=1))
    goal = made(tasks={"y": Task("y", "multi-label", 1, "logits")})
    expected = losses.binary_divergence(mine["y"], theirs["y"], 4.0)
    assert torch.equal(goal.loss(mine, theirs, None), expected)
    agreed = ((mine["y"] > 0) == (theirs["y"] > 0)).float().mean()
    assert score(goal, mine, theirs, None) == pytest.approx(100 * float(agreed))


def test_numbers_are_compared_by_the_square_of_each_column() -> None:
    mine, theirs = tensors(answers()), tensors(answers(seed=1))
    scale = torch.tensor([1.0, 100.0, 1.0, 1.0, 1.0])
    mine, theirs = ({"y": each["y"] * scale} for each in (mine, theirs))
    goal = measured(made(tasks={"y": Task("y", "regression", 1)}), MODELS, mine, [theirs])
    powers = theirs["y"].double().square().mean(0)
    floor = 1e-2 * powers.mean()
    expected = ((mine["y"] - theirs["y"]).double().square() / powers.clamp_min(floor)).mean()
    assert float(goal.loss(mine, theirs, None)) == pytest.approx(float(expected), rel=1e-5)
    assert goal.scoring is not None
    assert goal.scoring.figure.name == "R2"


def test_the_form_may_be_said_for_all() -> None:
    mine, theirs = tensors(answers()), tensors(answers(seed=1))
    goal = measured(made(soft="mse"), MODELS, mine, [{n: theirs[n] for n in ("y", "e")}])
    expected = [
        losses.relative_square(mine[n], theirs[n], theirs[n].square().mean(0)) for n in ("y", "e")
    ]
    assert torch.allclose(goal.loss(mine, theirs, None), torch.stack(expected).mean())


def test_parts_are_weighed_and_added() -> None:
    labels = np.array([0, 1, 4, 2])
    goal = made(labels, alpha=0.5, beta=2.0, gamma=3.0, features=("s",))
    mine = tensors(answers()) | {"s": torch.ones(4, 6)}
    theirs = tensors(answers(seed=1)) | {"s": torch.zeros(4, 6) + 2}
    assert goal.asked == ["y", "e", "s"]
    goal = measured(goal, MODELS, mine, [{name: theirs[name] for name in goal.asked}])
    soft = made().loss(mine, theirs, None)
    hard = losses.cross_entropy(mine["y"], torch.from_numpy(labels)).mean()
    expected = 0.5 * hard + 2 * soft + 3 * 0.25
    assert torch.allclose(goal.loss(mine, theirs, torch.from_numpy(labels)), expected)


def test_labels_alone_decide_what_is_kept_and_without_them_the_outputs() -> None:
    labels = np.array([0, 1, 4, 2])
    mine, theirs = tensors(answers()), tensors(answers(seed=1))
    found = made(labels, alpha=0.5).verdict(mine, theirs, torch.from_numpy(labels))
    hard = losses.cross_entropy(mine["y"], torch.from_numpy(labels)).mean()
    assert torch.allclose(found, hard)
    goal = made()
    assert torch.equal(goal.verdict(mine, theirs, None), goal.loss(mine, theirs, None))
    mine, theirs = (each | {"s": torch.full((4, 6), n)} for n, each in ((1.0, mine), (2.0, theirs)))
    tapped = measured(made(features=("s",)), MODELS, mine, [{n: theirs[n] for n in "yes"}])
    assert torch.equal(tapped.verdict(mine, theirs, None), made().loss(mine, theirs, None))
    tapped = replace(tapped, options=LossOptions(beta=0.0, features=("s",)))
    assert float(tapped.verdict(mine, theirs, None)) == pytest.approx(0.25)


def test_without_the_teacher_nothing_is_asked_of_it() -> None:
    goal = made(np.array([0, 1, 4, 2]), alpha=1.0, beta=0.0)
    assert goal.asked == []
    assert goal.scoring is not None
    assert goal.scoring.figure.name == "accuracy %"


SOFTMAX = f"{HEAD} net (float[N,6] x) => (float[N,5] y) {{ h = Gemm (x, V) y = Softmax (h) }}"
LOGITS = f"{HEAD} net (float[N,6] x) => (float[N,5] y) {{ y = Gemm (x, V) }}"


@pytest.mark.parametrize("first", [SOFTMAX, LOGITS])
@pytest.mark.parametrize("second", [SOFTMAX, LOGITS])
def test_student_and_teacher_are_read_by_their_own_form(first: str, second: str) -> None:
    raw = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(0))
    mine, theirs = (
        {"y": each.softmax(-1) if text == SOFTMAX else each}
        for text, each in zip((first, second), raw, strict=True)
    )
    models = graph_of(first), graph_of(second)
    tasks = float_tasks(models[0], [{"y": mine["y"].numpy()}], {})
    goal = measured(criterion(LossOptions(), *models, tasks), models, mine, [theirs])
    if first == second == LOGITS:
        assert goal.tasks["y"].kind == "regression", "nothing says that these are classes"
        return
    expected = losses.divergence(raw[0], raw[1], 4.0)
    assert torch.allclose(goal.loss(mine, theirs, None), expected, atol=1e-4)
    forced = measured(criterion(LossOptions(soft="mse"), *models, tasks), models, mine, [theirs])
    own = raw[1].softmax(-1) if first == SOFTMAX else raw[1]
    if first == LOGITS:  # logits are known but for a constant
        own = own.log_softmax(-1)
    gap = losses.relative_square(mine["y"], own, own.double().square().mean(0))
    assert torch.allclose(forced.loss(mine, theirs, None).double(), gap.double(), rtol=1e-3)


def test_what_labels_leave_out_is_not_compared() -> None:
    rng = np.random.default_rng(0)
    raw = [torch.from_numpy(rng.normal(size=(4, 3, 5)).astype(np.float32)) for _ in range(2)]
    labels = torch.tensor([[0, 1, -100], [2, -100, -100], [-100] * 3, [4, 3, 2]])
    tasks = {"y": Task("y", "classes", 2, "logits")}
    options = LossOptions(alpha=1.0)
    name, judged, values = judged_by(labels.numpy(), tasks, {"y": raw[0].numpy()}, options)
    shown = shown_by(name, judged, values)
    goal = criterion(LossOptions(), *MODELS, tasks, shown=shown)
    mine, theirs = {"y": raw[0]}, {"y": raw[1]}
    told = torch.from_numpy(values)
    rows = labels != -100
    expected = losses.divergence(raw[0][rows], raw[1][rows], 4.0)
    assert torch.allclose(goal.loss(mine, theirs, told), expected)
    parts = [
        goal.loss({"y": raw[0][p]}, {"y": raw[1][p]}, told[p]) / 2 for p in (slice(2), slice(2, 4))
    ]
    assert torch.allclose(torch.stack(parts).sum(), expected)
    agreed = (raw[0].argmax(-1) == raw[1].argmax(-1))[rows].float().mean()
    assert score(goal, mine, theirs, told) == pytest.approx(100 * float(agreed))
    assert float(goal.loss({"y": raw[0][2:3]}, {"y": raw[1][2:3]}, told[2:3])) == 0
    assert shown_by(name, judged, np.zeros((4, 3), np.int64)) is None


def test_halves_of_a_teacher_are_squared_as_floats() -> None:
    mine = {"y": torch.zeros(2, 5), "e": torch.zeros(2, 6)}
    theirs = {"y": torch.full((2, 5), 6e4, dtype=torch.float16), "e": torch.ones(2, 6)}
    goal = measured(made(soft="mse"), MODELS, mine, [theirs])
    assert float(goal.loss(mine, theirs, None)) == pytest.approx(1)


def test_scores() -> None:
    mine, theirs = tensors(answers()), tensors(answers(seed=1))
    same = np.mean(answers()["y"].argmax(1) == answers(seed=1)["y"].argmax(1))
    assert score(made(), mine, theirs, None) == pytest.approx(100 * same)
    labels = answers()["y"].argmax(1)
    labels[0] = (labels[0] + 1) % 5
    assert score(made(labels, alpha=1.0), mine, theirs, torch.from_numpy(labels)) == 75
    cosine = torch.cosine_similarity(mine["y"], theirs["y"]).mean()
    assert score(made(soft="cosine"), mine, theirs, None) == pytest.approx(float(cosine))
    assert made(beta=0.0, features=("s",)).scoring is None


def test_labels_of_tokens_are_classes_each() -> None:
    found = {"y": np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)}
    labels = found["y"].argmax(-1)
    options, tasks = LossOptions(alpha=1.0), {"y": Task("y", "regression", 2)}
    name, judged, values = judged_by(labels, tasks, found, options)
    goal = criterion(options, *MODELS, {"y": judged.of_output}, (name, judged))
    mine = tensors(found)
    assert score(goal, mine, mine, torch.from_numpy(values)) == 100
    rows = losses.cross_entropy(mine["y"], torch.from_numpy(labels)).mean()
    assert torch.allclose(goal.loss(mine, mine, torch.from_numpy(values)), rows)


def test_blocks_stand_for_all_sums_of_branches() -> None:
    assert made(gamma=1.0, features=("blocks",)).taps == ("s",)
    assert made(gamma=0.0, features=("blocks",)).taps == ()


def test_features_that_a_model_lacks() -> None:
    other = graph_of(TWO.replace("s = Add (r, x)", "s = Sub (r, x)"))
    with pytest.raises(UsageError, match="share no residual sum; name tensors"):
        criterion(LossOptions(gamma=1, features=("blocks",)), graph_of(), other, TASKS)
    other = graph_of(TWO.replace("r = ", "q = ").replace("(r, x)", "(q, x)"))
    for first, second, role in ((graph_of(), other, "teacher"), (other, graph_of(), "student")):
        with pytest.raises(UsageError, match=f"the {role} computes no tensor 'r'"):
            criterion(LossOptions(gamma=1, features=("r",)), first, second, TASKS)


def test_outputs_of_integers_have_no_task_of_floats() -> None:
    assert float_tasks(graph_of(), [{"best": np.zeros(4, np.int64)}], {}) == {}


def test_scores_that_are_no_outputs_are_tapped_and_asked_of_the_teacher() -> None:
    inner = {"r": Task("r", "classes", 1, "logits")}
    goal = criterion(LossOptions(), *MODELS, inner)
    assert (goal.taps, goal.asked) == (("r",), ["r"])
    alone = criterion(LossOptions(alpha=1, beta=0), *MODELS, inner)
    assert (alone.taps, alone.asked) == (("r",), [])
    other = graph_of(TWO.replace("r = ", "q = ").replace("(r, x)", "(q, x)"))
    with pytest.raises(ModelError, match="the teacher computes no tensor 'r', the scores of which"):
        criterion(LossOptions(), MODELS[0], other, inner)


def test_a_teacher_of_other_shapes_is_refused() -> None:
    mine = tensors(answers())
    with pytest.raises(
        ModelError, match=r"tensor 'y' has shape \[4, 10\] in the teacher and \[4, 5\]"
    ):
        measured(made(), MODELS, mine, [{"y": torch.zeros(4, 10)}])
