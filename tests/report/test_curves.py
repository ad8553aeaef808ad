import dataclasses
import math

import pytest

from graphopt.contract.curves import TrainingCurves
from graphopt.report.charts import HEIGHT
from graphopt.report.curves import WIDTH, Course, course, plots


def test_a_course_in_words(curves: TrainingCurves) -> None:
    assert course(curves) == Course(
        steps="240 of 600",
        samples="9500 + 500 held out",
        loss="6.125 -> 0.1512",
        score="41.20 -> 95.20",
        metric="agreement %",
        kept="step 180",
        outcome="went on from step 120; ended early: no gain on the held-out part in 1 evaluations",
    )


def test_the_ordinary_course_needs_no_words(curves: TrainingCurves) -> None:
    told = course(dataclasses.replace(curves, stopped="", resumed=0))
    assert (told.steps, told.outcome) == ("600", "")


def test_what_was_kept_untrained_says_so(curves: TrainingCurves) -> None:
    told = course(dataclasses.replace(curves, best_step=0, stopped="", resumed=0))
    assert (told.kept, told.loss, told.score) == ("untrained", "6.125", "41.20")
    assert told.outcome == "no step was better on the held-out samples; kept untrained"


def test_what_decided_is_said(curves: TrainingCurves) -> None:
    plain = dataclasses.replace(curves, stopped="", resumed=0, metric="F1 %", kept_by="F1 %")
    told = course(plain)
    assert told.outcome == "kept by F1 % of the held-out samples, within its noise by their loss"
    untrained = course(dataclasses.replace(plain, best_step=0)).outcome
    assert untrained == (
        "no step was better on the held-out samples by F1 %, nor by the loss where that is within "
        "its noise; kept untrained"
    )
    by_loss = dataclasses.replace(plain, kept_by="loss")
    assert course(by_loss).outcome == ""
    fallen = dataclasses.replace(by_loss, best_step=60, scores=[(0, 90.0), (60, 88.6)])
    assert course(fallen).outcome == "kept by the loss, although F1 % is lower than before"


def test_without_a_held_out_part_there_is_no_figure(curves: TrainingCurves) -> None:
    told = course(dataclasses.replace(curves, held_out=0, held_out_loss=[], scores=[], metric=""))
    assert (told.loss, told.score, told.metric) == ("-", "-", "")


def test_a_loss_over_decades_gets_a_logarithmic_axis(curves: TrainingCurves) -> None:
    loss, score = plots(curves)
    assert (loss.title, loss.high, loss.low) == ("Loss, logarithmic", "6.125", "0.041")
    assert loss.end == score.end == "600 steps"
    assert (score.title, score.high, score.low) == ("agreement %", "95.2", "41.2")
    assert [line.name for line in loss.lines] == ["training", "held out"]
    assert loss.kept == score.kept == WIDTH * 180 / 600


def test_points_stand_at_their_steps_and_values(curves: TrainingCurves) -> None:
    few = dataclasses.replace(
        curves, steps=10, loss=[(5, 2.0), (10, 1.0)], held_out_loss=[], best_step=10, scores=[]
    )
    (plot,) = plots(few)
    assert plot.title == "Loss"
    bottom, top = round(0.94 * HEIGHT, 2), round(0.06 * HEIGHT, 2)
    assert plot.lines[0].path == f"M500.0 {top}L1000.0 {bottom}"
    assert plot.lines[0].dots == f"M500.0 {top}h0M1000.0 {bottom}h0"
    assert [(mark.x, mark.width, mark.text) for mark in plot.marks] == [
        (0.0, 750.0, "step 5: training 2"),
        (750.0, 250.0, "step 10: training 1"),
    ]


@pytest.mark.parametrize("lost", [math.inf, math.nan])
def test_values_that_are_not_finite_are_left_out(curves: TrainingCurves, lost: float) -> None:
    points = [(0, lost), (60, 0.5), (120, 0.4)]
    (plot,) = plots(dataclasses.replace(curves, held_out_loss=points, loss=[], scores=[]))
    assert plot.lines[1].path.count("L") == 1


def test_a_flat_line_lies_in_the_middle(curves: TrainingCurves) -> None:
    flat = dataclasses.replace(curves, loss=[], scores=[], held_out_loss=[(0, 0.0), (600, 0.0)])
    (plot,) = plots(flat)
    assert plot.lines[1].path == f"M0.0 {HEIGHT / 2}L1000.0 {HEIGHT / 2}"


def test_a_single_value_is_no_plot(curves: TrainingCurves) -> None:
    assert plots(dataclasses.replace(curves, loss=[], scores=[], held_out_loss=[(0, 1.0)])) == []
