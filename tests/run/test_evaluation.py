"""Closeness over samples: real rows, shapes, top answers, the metric."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from graphopt.data import open_data
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import DataError, Need
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.run.evaluation import evaluate
from graphopt.run.metrics import FunctionMetric
from graphopt.run.quality import Quality
from graphopt.runtime.session import Session
from graphopt.testing import MODELS, model_from_text

LABELS = np.arange(1, 5)


def _graph(scale: float = 1.0) -> Graph:
    return io.load(
        model_from_text(
            """<ir_version: 8, opset_import: ["" : 13]>
            g (float[N,4] x) => (float[N,4] y, int64 n) { y = Mul (x, s)  n = Size (x) }""",
            {"s": np.array(scale, np.float32)},
        )
    )


def test_evaluation_with_a_metric() -> None:
    graph = io.load(MODELS["no-layers"]())

    class Labelled(SyntheticSamples):
        @property
        def labels(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
            return np.arange(self.count)

    (quality,) = evaluate(
        graph,
        [Session(graph, threads=1)] * 2,
        Labelled(graph, count=3),
        FunctionMetric("rows", lambda outputs, labels: float(len(outputs[0]) + len(labels))),
        source="eval",
    )
    assert quality.metric is not None
    assert (quality.metric.name, quality.metric.before, quality.metric.after) == ("rows", 6, 6)


def test_a_metric_that_does_not_fit_is_an_error_of_the_data() -> None:
    graph = _graph()

    class Labelled(SyntheticSamples):
        @property
        def labels(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
            return np.arange(self.count)

    def broken(outputs: object, labels: object) -> float:
        raise KeyError("nothing")

    def leaving(outputs: object, labels: object) -> float:
        sys.exit(7)

    sessions = [Session(graph, threads=1)] * 2
    with pytest.raises(DataError, match=r"metric 'leaving' cannot be computed .*SystemExit: 7$"):
        evaluate(
            graph, sessions, Labelled(graph), FunctionMetric("leaving", leaving), source="eval"
        )
    with pytest.raises(DataError, match=r"metric 'broken' cannot be computed .*KeyError"):
        metric = FunctionMetric("broken", broken)
        evaluate(graph, sessions, Labelled(graph), metric, source="eval")


def test_what_is_held_for_a_metric_is_bounded() -> None:
    graph = _graph()

    class Labelled(SyntheticSamples):
        @property
        def labels(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
            return np.arange(self.count)

    sessions = [Session(graph, threads=1)] * 2
    metric = FunctionMetric("count", lambda outputs, labels: float(len(outputs[0])))
    for limit, words in ((4 * 2 * 24, None), (4 * 2 * 24 - 1, "more memory than is allowed")):
        if words is None:
            evaluate(graph, sessions, Labelled(graph), metric, source="eval", memory_limit=limit)
            continue
        with pytest.raises(DataError, match=words) as caught:
            evaluate(graph, sessions, Labelled(graph), metric, source="eval", memory_limit=limit)
        assert caught.value.needs == (Need.MEMORY_LIMIT,)


def test_a_metric_may_write_on_the_labels() -> None:
    graph = _graph()

    class Labelled(SyntheticSamples):
        @property
        def labels(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
            return LABELS

    def first(_: object, labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> float:
        found = float(labels[0])
        labels[:] = 0
        return found

    sessions = [Session(graph, threads=1)] * 2
    (quality,) = evaluate(
        graph, sessions, Labelled(graph), FunctionMetric("first", first), source="eval"
    )
    assert quality.metric is not None
    assert (quality.metric.before, quality.metric.after) == (1, 1)


def test_a_quality_says_what_few_samples_leave_open() -> None:
    graph, coarse = _graph(), _graph(0.9)
    sessions = [Session(graph, threads=1), Session(coarse, threads=1)]

    def judged(x: Array, source: str = "eval") -> Quality:
        (quality,) = evaluate(graph, sessions, open_data({"x": x}, graph), None, source=source)
        return quality

    varied = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)
    few = judged(varied)
    assert few.sqnr_db["y"] == pytest.approx(20, abs=1e-3)
    assert few.worst_sample_db["y"] == pytest.approx(20, abs=1e-3)
    assert few.fresh is not None
    least = few.fresh.sqnr_db["y"]
    assert least is not None
    assert 10 < least < 20
    assert judged(varied[:1]).fresh is None
    assert judged(np.tile(varied, (63, 1))).fresh is None  # 1008 samples are not few
    assert judged(varied, "calib").fresh is None
    same = judged(np.tile(varied[:1], (16, 1)))
    assert (same.alike, same.fresh) == (True, None)
