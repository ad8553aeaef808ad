"""Answers of a teacher, fresh and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphopt.bridge.training import teacher as module
from graphopt.bridge.training.batches import Batch
from graphopt.bridge.training.teacher import Teacher
from graphopt.errors import ModelError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.session import Session

X = frozenset(["x"])


def batch(pictures: Array, *numbers: int) -> Batch:
    return Batch({"x": pictures[list(numbers)]}, np.array(numbers), None)


class Counted(Session):
    """A session that counts its runs."""

    runs = 0

    def run(self, feeds: Any) -> Any:
        Counted.runs += 1
        return super().run(feeds)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often a session ran since the last question."""
    monkeypatch.setattr(module, "Session", Counted)
    Counted.runs = 0

    def since() -> int:
        count, Counted.runs = Counted.runs, 0
        return count

    return since


def made(graph: Graph, samples: int = 6, tensors: tuple[str, ...] = ("y",)) -> Teacher:
    return Teacher(graph, tensors, threads=1, samples=samples, joined=X)


def test_what_is_kept_is_what_was_answered(convnet: Any, pictures: Any, runs: Any) -> None:
    asked, x = made(convnet(), tensors=("y", "g")), pictures(6)
    first = asked(batch(x, 0, 3, 4))
    assert list(first) == ["y", "g"]
    assert runs() == 1
    again = asked(batch(x, 4, 0))
    assert runs() == 0
    for name, values in again.items():
        assert np.array_equal(values, first[name][[2, 0]])
    fresh = made(convnet(), tensors=("y", "g"))(batch(x, 4, 0))
    for name, values in again.items():
        assert values == pytest.approx(fresh[name], abs=1e-5)


def test_a_batch_with_one_unknown_sample_is_run(convnet: Any, pictures: Any, runs: Any) -> None:
    asked, x = made(convnet()), pictures(6)
    asked(batch(x, 0, 1))
    asked(batch(x, 1, 2))
    assert runs() == 2
    asked(batch(x, 2, 0))
    assert runs() == 0


def test_changed_samples_are_neither_kept_nor_answered_from_memory(
    convnet: Any, pictures: Any, runs: Any
) -> None:
    asked, x = made(convnet()), pictures(6)
    plain = asked(batch(x, 0, 1))["y"]
    moved = asked(batch(x + 1, 0, 1), changed=True)["y"]
    assert not np.array_equal(plain, moved)
    assert np.array_equal(asked(batch(x, 0, 1))["y"], plain)
    asked(batch(x, 2, 3), changed=True)
    asked(batch(x, 2, 3))
    assert runs() == 4


def test_answers_that_are_too_large_are_not_kept(
    convnet: Any, pictures: Any, runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CACHE_BYTES", 6 * 5 * 4 - 1)
    asked, x = made(convnet()), pictures(6)
    first = asked(batch(x, 0, 1))["y"]
    assert np.array_equal(asked(batch(x, 0, 1))["y"], first)
    assert runs() == 2


def test_a_file_that_fixes_a_batch_of_one_is_asked_one_by_one(convnet: Any, pictures: Any) -> None:
    x = pictures(6)
    expected = made(convnet())(batch(x, 0, 1, 2))["y"]
    asked = made(convnet(batch="1"))
    for _ in range(2):
        found = asked(batch(x, 0, 1, 2), changed=True)["y"]
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_model_that_cannot_run_says_so(convnet: Any, pictures: Any) -> None:
    with pytest.raises(ModelError, match="onnxruntime cannot run the model"):
        made(convnet())(Batch({"x": pictures(2)[:, :1]}, np.arange(2), None))
