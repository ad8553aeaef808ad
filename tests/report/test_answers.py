"""What is said of each kind of output."""

from __future__ import annotations

import pytest

from graphopt.report.answers import answers, closeness
from graphopt.run.quality import Fresh, Quality
from graphopt.tasks.quality import FoundRows, OutputQuality, WorstSlice


def _said(**outputs: OutputQuality) -> dict[str, str]:
    figures = {name: each.sqnr_db for name, each in outputs.items()}
    lines = answers(Quality(figures, samples=16, source="eval", outputs=outputs))
    assert len({label for label, _ in lines}) == len(lines)
    return dict(lines)


def test_numbers_with_what_is_worse_than_the_whole() -> None:
    slice_ = WorstSlice(1, 7, 11.0)
    told = OutputQuality("regression", sqnr_db=40, about_mean_db=20, worst_slice=slice_)
    assert _said(y=told) == {
        "SQNR of y": "40.0 dB, 20.0 dB about its means, index 7 of axis 1 11.0 dB"
    }
    close = OutputQuality("regression", sqnr_db=40, about_mean_db=39.8)
    assert _said(y=close) == {"SQNR of y": "40.0 dB"}


def test_shares_are_told_as_shares() -> None:
    said = _said(
        token=OutputQuality("indices", agreement=97.4, error=0.026),
        area=OutputQuality("mask", agreement=99.0, unusual=80.0, error=0.2),
        label=OutputQuality("texts", agreement=98.0, unusual=90.0, error=0.1),
        spam=OutputQuality("binary", sqnr_db=30.0, agreement=99.5),
    )
    assert said["equal values of token"] == "97.40 %"
    assert said["equal values of area"] == "99.00 %, IoU 66.67 %"
    assert said["equal values of label"] == "98.00 %, F1 of the seldom values 90.00 %"
    assert said["same side of the threshold of spam"] == "99.50 %"
    assert "top-1" not in "".join(said)


@pytest.mark.parametrize(("batched", "word"), [(False, "samples"), (True, "batches")])
def test_lists_of_rows_are_called_what_they_are(batched: bool, word: str) -> None:
    rows = FoundRows(20, 21, 19, 19, "overlap of boxes", 2, 16, batched)
    said = _said(boxes=OutputQuality("boxes", sqnr_db=30.0, rows=rows))
    assert f"another number of rows in 2 of 16 {word}" in said["rows of boxes"]


def test_outputs_with_the_same_rows_have_one_line() -> None:
    rows = FoundRows(20, 21, 19, 19, "overlap of boxes", 2, 16)
    said = _said(
        boxes=OutputQuality("boxes", sqnr_db=30.0, rows=rows),
        scores=OutputQuality("regression", sqnr_db=25.0, rows=rows),
    )
    assert said["rows of boxes, scores"] == (
        "recall 95.00 %, precision 90.48 %, 20 before and 21 after, another number of rows in "
        "2 of 16 samples, matched by overlap of boxes"
    )


def test_what_was_not_compared_or_is_no_answer_is_said() -> None:
    said = _said(
        a=OutputQuality("regression", compared=False, reason="no values on these samples"),
        b=OutputQuality("regression", sqnr_db=-300.0, fault="sample 3: NaN"),
        c=OutputQuality("regression", sqnr_db=50.0, not_finite=2),
    )
    assert said["output a"] == "not compared: no values on these samples"
    assert said["output b"] == "sample 3: NaN"
    assert said["output c"] == "the model before holds NaN or infinity itself in 2 samples"
    assert "SQNR of b" not in said


def test_a_state_after_its_steps() -> None:
    said = _said(h=OutputQuality("state", sqnr_db=40.0, steps=8, after_steps_db=31.0))
    assert said["after 8 steps of h"] == "31.0 dB, each model with its own state"


def test_a_line_for_all() -> None:
    outputs = {
        "y": OutputQuality("regression", sqnr_db=40.0, about_mean_db=33.0),
        "n": OutputQuality("indices", agreement=97.0, error=0.03),
    }
    quality = Quality({"y": 40.0, "n": None}, outputs=outputs, fresh=Fresh({"y": 35.0}))
    assert closeness(quality) == "SQNR 33.0 dB, agreement 97.00 %"
    assert closeness(Quality({"y": None})) == "not measured"
