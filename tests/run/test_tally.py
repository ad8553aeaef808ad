"""Sums over samples: real rows, shapes, top answers, the worst sample, bounds for fresh ones."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.numerics.fresh import FEW
from graphopt.observe.request import Rows
from graphopt.run.tally import Tally
from graphopt.tasks.task import Task

CLASSES = {"y": Task("y", "classes", axis=1, form="logits")}


def test_only_real_rows_and_fitting_shapes_count() -> None:
    tally = Tally(["y"], CLASSES)
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
    tally = Tally(["y"], CLASSES)
    rows = np.array([[1, np.inf, -np.inf], [1, 2, 3]], np.float32)
    tally.add({"y": rows}, {"y": rows}, Rows(2, 2, first=True))
    quality = tally.quality("eval")
    assert quality.agreement_top1 is None
    assert quality.sqnr_db["y"] == 300
    assert quality.outputs["y"].not_finite == 1


def test_outputs_without_a_row_a_sample_count_whole() -> None:
    tally = Tally(["y"])
    right, wrong = np.ones((5, 2), np.float32), np.ones((5, 2), np.float32)
    wrong[4] = 2
    tally.add({"y": right}, {"y": wrong}, Rows(1, 1, first=True))
    assert tally.quality("eval").sqnr_db["y"] == pytest.approx(10 * np.log10(10 / 2))


def test_the_worst_sample_is_found_among_rows_and_feeds() -> None:
    tally = Tally(["y", "z"])
    right = np.ones((3, 2), np.float32)
    answer = right.copy()
    answer[1] = 1.1
    answer[2] = 7  # fills up the feed and does not count
    tally.add({"y": right, "z": right}, {"y": answer, "z": right}, Rows(2, 3, first=True))
    found = tally.quality("eval").worst_sample_db
    assert found == {"y": pytest.approx(20, abs=1e-4), "z": 300}
    tally.add({"y": right[:1], "z": right[:1]}, {"y": -right[:1], "z": right}, Rows(1, 1, False))
    worst = tally.quality("eval").worst_sample_db["y"]
    assert worst == pytest.approx(10 * np.log10(1 / 4))


def test_an_answer_that_fails_has_no_bound_and_is_the_worst() -> None:
    tally = Tally(["y"])
    right = np.array([[1, 2], [3, 4]], np.float32)
    tally.add({"y": right}, {"y": np.array([[1, np.nan], [3, 4]])}, Rows(2, 2, first=True))
    fresh = tally.fresh()
    assert fresh is not None
    assert fresh.sqnr_db == {"y": None}
    assert tally.quality("eval").worst_sample_db == {"y": -300}


def test_bounds_are_for_few_samples_that_differ() -> None:
    rng = np.random.default_rng(0)
    right = rng.standard_normal((FEW, 3)).astype(np.float32)
    answer = right + rng.normal(scale=0.1, size=right.shape).astype(np.float32)

    def tallied(count: int, *, alike: bool = False, clipped: bool = False) -> Tally:
        tally = Tally(["y"], CLASSES, alike=alike, clipped=clipped)
        rows = Rows(count, count, first=True)
        tally.add({"y": right[:count]}, {"y": answer[:count]}, rows)
        return tally

    wide, narrow, clipped = tallied(16).fresh(), tallied(900).fresh(), tallied(16, clipped=True)
    assert wide is not None
    assert narrow is not None
    assert (clipped.fresh() or wide).sqnr_db["y"] < wide.sqnr_db["y"] < narrow.sqnr_db["y"]  # type: ignore[operator]  # none of them is None
    assert 50 < wide.agreement["y"] < narrow.agreement["y"] < 100  # type: ignore[operator]  # none of them is None
    for few in (tallied(1), tallied(FEW), tallied(16, alike=True)):
        assert few.fresh() is None
