"""Closeness over samples: real rows, shapes, top answers, the metric."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import DataError, Need
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.observe.request import Rows
from graphopt.run.evaluation import Tally, evaluate
from graphopt.run.metrics import NamedMetric
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


def test_only_real_rows_and_fitting_shapes_count() -> None:
    tally = Tally(["y"])
    right = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    wrong = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    tally.add({"y": right}, {"y": wrong}, Rows(1, 2, first=True))
    quality = tally.quality("eval")
    assert (quality.sqnr_db["y"], quality.agreement_top1) == (300, 100)
    tally.add({"y": right}, {"y": wrong}, Rows(2, 2, first=True))
    assert tally.quality("eval").agreement_top1 == pytest.approx(200 / 3)
    tally.add({"y": right}, {"y": right[:1]}, Rows(2, 2, first=True))
    worst = tally.quality("eval").worst_db
    assert worst is not None
    assert worst < 0


def test_outputs_of_rank_0_count() -> None:
    tally = Tally(["y"])
    scalar = np.array(2, np.float32)
    tally.add({"y": scalar}, {"y": scalar}, Rows(1, 1, first=True))
    assert tally.quality("eval").sqnr_db["y"] == 300


def test_rows_with_infinite_values_have_no_top_answer() -> None:
    tally = Tally(["y"])
    rows = np.array([[1, np.inf, -np.inf], [1, 2, 3]], np.float32)
    tally.add({"y": rows}, {"y": rows}, Rows(2, 2, first=True))
    quality = tally.quality("eval")
    assert quality.agreement_top1 is None
    assert quality.sqnr_db["y"] == 300


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
        ("rows", lambda outputs, labels: float(len(outputs[0]) + len(labels))),
        source="eval",
    )
    assert quality.metric is not None
    assert (quality.metric.name, quality.metric.before, quality.metric.after) == ("rows", 6, 6)


def test_outputs_without_a_row_a_sample_count_whole() -> None:
    tally = Tally(["y"])
    right, wrong = np.ones((5, 2), np.float32), np.ones((5, 2), np.float32)
    wrong[4] = 2
    tally.add({"y": right}, {"y": wrong}, Rows(1, 1, first=True))
    assert tally.quality("eval").sqnr_db["y"] == pytest.approx(10 * np.log10(10 / 2))


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
        evaluate(graph, sessions, Labelled(graph), ("leaving", leaving), source="eval")
    with pytest.raises(DataError, match=r"metric 'broken' cannot be computed .*KeyError"):
        evaluate(graph, sessions, Labelled(graph), ("broken", broken), source="eval")


def test_what_is_held_for_a_metric_is_bounded() -> None:
    graph = _graph()

    class Labelled(SyntheticSamples):
        @property
        def labels(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
            return np.arange(self.count)

    sessions = [Session(graph, threads=1)] * 2
    metric: NamedMetric = ("count", lambda outputs, labels: float(len(outputs[0])))
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
    (quality,) = evaluate(graph, sessions, Labelled(graph), ("first", first), source="eval")
    assert quality.metric is not None
    assert (quality.metric.before, quality.metric.after) == (1, 1)
