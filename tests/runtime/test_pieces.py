from __future__ import annotations

import math
from typing import Any

import pytest

from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.runtime import pieces
from graphopt.runtime.pieces import ratio_of_times
from graphopt.runtime.session import thread_count
from graphopt.testing import model_from_text

TEXT = """<ir_version: 8, opset_import: ["" : 13]>
  g (float[2,%s] x) => (float y) { y = MatMul (x, %s) }"""


def _graph(size: int = 8, name: str = "W", seed: int = 0) -> Graph:
    return io.load(model_from_text(TEXT % (size, name), {name: (size, 4)}, seed=seed))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is timed, in place of timing it."""
    calls: list[Any] = []
    monkeypatch.setattr(pieces, "_known", {})

    def measured(*given: Any) -> float:
        calls.append(given)
        return 0.5

    monkeypatch.setattr(pieces, "_measured", measured)
    return calls


def test_models_that_are_alike_are_timed_once(measured: list[Any]) -> None:
    assert ratio_of_times(_graph(), _graph(16), 1) == 0.5
    ratio_of_times(_graph(name="V"), _graph(16, name="Q"), 1)
    assert len(measured) == 1
    for base, other, threads in ((8, 12, 1), (12, 16, 1), (16, 8, 1), (8, 16, 2)):
        ratio_of_times(_graph(base), _graph(other), threads)
    assert len(measured) == 5 - (thread_count(2) == 1)


def test_a_ratio_is_of_real_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_known", {})
    assert 0 < ratio_of_times(_graph(), _graph(seed=1), 1) < 100


def test_what_does_not_run_takes_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_known", {})
    broken = _graph(12)  # wants 12 columns
    assert math.isinf(ratio_of_times(_graph(8), broken, 1))
