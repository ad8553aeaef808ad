"""Scores from gradients against what really happens to the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch

from graphopt.bridge import to_torch
from graphopt.bridge.training.batches import Batch
from graphopt.bridge.training.importance import importance, importance_of
from graphopt.data import open_data
from graphopt.errors import DataError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.session import Session
from graphopt.tasks.task import Task
from graphopt.testing import model_from_text

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
KINDS: tuple[Literal["taylor", "snip"], ...] = ("taylor", "snip")


def _linear(head: str = "y = MatMul (x, W)", width: int = 3) -> Graph:
    text = f"{HEAD} net (float[N,4] x) => (float[N,{width}] y) {{ {head} }}"
    return io.load(model_from_text(text, {"W": (4, width)}))


def _log_loss(graph: Graph, x: Array, labels: Array) -> float:
    y = Session(graph, threads=1).run({"x": x})["y"].astype(np.float64)
    chances = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    return float(-np.log(chances[np.arange(len(x)), labels]).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_finite_differences_say(
    kind: Literal["taylor", "snip"], convnet: Callable[..., Graph], pictures: Any
) -> None:
    graph = convnet()
    x, labels = pictures(6), np.array([0, 1, 2, 3, 4, 0])
    module = to_torch(graph)
    pieces = [
        Batch({"x": x[part]}, np.arange(6)[part], labels[part])
        for part in (slice(0, 3), slice(3, 6))
    ]

    def loss(answers: Any, wanted: torch.Tensor | None) -> torch.Tensor:
        assert wanted is not None
        return torch.nn.functional.cross_entropy(answers["y"], wanted)

    found = importance(module, pieces, loss, kind, ["W", "V"])
    step = 1e-2
    for name in ("W", "V"):
        constant = graph.main.constant(name)
        assert constant is not None
        expected = np.zeros(constant.shape)
        for place in np.ndindex(*constant.shape):
            for piece in pieces:
                ends = []
                for sign in (1, -1):
                    moved = graph.copy()
                    held = moved.main.constant(name)
                    assert held is not None
                    values = held.values.copy()
                    values[place] += sign * step
                    held.set(values)
                    assert piece.labels is not None
                    ends.append(_log_loss(moved, piece.feeds["x"], piece.labels))
                effect = (ends[0] - ends[1]) / (2 * step) * constant.values[place]
                expected[place] += (effect**2 if kind == "taylor" else abs(effect)) / 2
        largest = expected.max()
        np.testing.assert_allclose(found[name], expected, atol=0.02 * largest)


def test_weights_without_effect_score_nothing_and_unread_ones_are_missing() -> None:
    graph = _linear()
    x = np.array([[1, 2, 0, 3], [2, 1, 0, 1], [3, 3, 0, 1]] * 4, np.float32)
    found = importance_of(graph, open_data({"x": x}, graph), "snip", ["W"])["W"]
    assert not found[2].any(), "its input is always zero"
    assert (found[[0, 1, 3]] > 0).all()


def test_without_labels_squares_estimate_the_fisher_information() -> None:
    graph = _linear()
    constant = graph.main.constant("W")
    assert constant is not None
    x = np.random.default_rng(0).normal(size=(2048, 4)).astype(np.float32)
    samples, words = open_data({"x": x}, graph), {"y": Task("y", "classes")}
    found = importance_of(graph, samples, "taylor", ["W"], words=words)["W"]
    y = x @ constant.values
    chances = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    fisher = (x**2).T @ (chances * (1 - chances)) / len(x)  # of p(y | x), for a linear layer
    expected = fisher * constant.values.astype(np.float64) ** 2 / 16  # batches of 16
    np.testing.assert_allclose(found, expected, rtol=0.6)  # 128 draws: 4 standard errors
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95


def test_outputs_that_are_values_have_scores_too() -> None:
    graph = _linear("h = MatMul (x, W)  y = Tanh (h)")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    found = importance_of(graph, open_data({"x": x}, graph), "taylor", ["W"])["W"]
    assert (found > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_it_repeats_with_the_seed(
    kind: Literal["taylor", "snip"], convnet: Callable[..., Graph], pictures: Any
) -> None:
    graph = convnet()
    samples = open_data({"x": pictures(40)}, graph)
    first, again, other = (
        importance_of(graph, samples, kind, ["W"], seed=seed)["W"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_labels_that_fit_no_output_are_refused() -> None:
    graph = _linear()
    x = np.ones((4, 4), np.float32)
    samples = open_data({"x": x, "labels": np.array([0, 1, 2, 7])}, graph)
    with pytest.raises(
        DataError, match="from 0 to 7 fit no output: output 'y' takes class numbers 0 to 2"
    ):
        importance_of(graph, samples, "snip", ["W"])
