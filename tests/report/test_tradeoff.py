import dataclasses
import math

import pytest

from graphopt.report.tradeoff import tradeoffs
from graphopt.run.quality import Metric, Quality
from graphopt.run.record import LimitRecord, RunRecord


def limited(record: RunRecord, *limits: tuple[str, float]) -> RunRecord:
    asked = [LimitRecord(name, value, value, True) for name, value in limits]
    return dataclasses.replace(record, limits=asked)


def test_faster_is_further_left_and_better_further_up(record: RunRecord) -> None:
    metric, noise = tradeoffs(limited(record))
    assert (metric.title, noise.title) == ("top1, of the original 71.88", "SQNR")
    assert [point.number for point in metric.points] == [1, 2, 3, 4], "the fifth was not timed"
    assert [point.chosen for point in metric.points] == [False, True, False, False]
    by_time = sorted(metric.points, key=lambda point: point.x)
    assert [point.number for point in by_time] == [2, 3, 1, 4]
    by_figure = sorted(metric.points, key=lambda point: point.y)
    assert [point.number for point in by_figure] == [1, 4, 2, 3]
    assert metric.same == metric.points[0].x, "the cleaned model takes as long as itself"
    assert all(0 < each < 100 for point in metric.points for each in (point.x, point.y))
    assert metric.points[1].text == "2 static, uint8 activations: 0.54x, 71.63"
    assert (noise.high, noise.low, noise.end) == ("80.0 dB", "23.0 dB", "1.41x")


@pytest.mark.parametrize(
    ("limits", "titles", "above"),
    [
        ([("max_drop", 0.3)], ["top1, of the original 71.88", "SQNR"], {1, 2, 4}),
        ([("min_agreement", 98.0)], ["top1, of the original 71.88", "Same decisions"], None),
        ([], ["top1, of the original 71.88", "SQNR"], None),
    ],
)
def test_the_limit_is_a_line(
    record: RunRecord, limits: list[tuple[str, float]], titles: list[str], above: set[int] | None
) -> None:
    drawn = tradeoffs(limited(record, *limits))
    assert [each.title for each in drawn] == titles
    if above is None:
        assert drawn[0].limit is None
    else:
        assert drawn[0].limit is not None
        assert {point.number for point in drawn[0].points if point.y <= drawn[0].limit} == above


def test_an_error_grows_downwards(record: RunRecord) -> None:
    assert record.quality is not None
    error = Metric("mse", 71.0, 71.9, higher_is_better=False)
    told = dataclasses.replace(record, quality=dataclasses.replace(record.quality, metric=error))
    drawn = tradeoffs(limited(told, ("max_drop", 0.6)))[0]
    assert drawn.better == "down"
    assert drawn.limit is not None
    assert {point.number for point in drawn.points if point.y >= drawn.limit} == {3}


def test_without_labels_numbers_and_decisions_are_drawn(record: RunRecord) -> None:
    bare = [dataclasses.replace(each, metric=None) for each in record.candidates]
    told = dataclasses.replace(record, candidates=bare, quality=Quality({}))
    assert [each.title for each in tradeoffs(limited(told))] == ["SQNR", "Same decisions"]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points_are_no_picture(record: RunRecord, count: int) -> None:
    assert tradeoffs(dataclasses.replace(record, candidates=record.candidates[:count])) == []


@pytest.mark.parametrize("value", [1.0, math.nan])
def test_a_figure_that_tells_none_apart_is_not_drawn(record: RunRecord, value: float) -> None:
    same = [dataclasses.replace(each, metric=value) for each in record.candidates]
    drawn = tradeoffs(limited(dataclasses.replace(record, candidates=same)))
    assert [each.title for each in drawn] == ["SQNR", "Same decisions"]
