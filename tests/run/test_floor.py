"""What is too far off, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from graphopt.contract.settings import Limits
from graphopt.graph import io
from graphopt.run.floor import held_outputs, too_far
from graphopt.run.metrics import FunctionMetric
from graphopt.run.quality import Quality
from graphopt.tasks.quality import FoundRows, OutputQuality, WorstSlice
from graphopt.testing import MODELS, staged


def _said(floor: float | None = None, **outputs: OutputQuality) -> str:
    figures = {name: each.sqnr_db for name, each in outputs.items()}
    return too_far(Quality(figures, outputs=outputs), floor)


GOOD = OutputQuality("regression", sqnr_db=40.0, about_mean_db=35.0)
NOTHING = OutputQuality("regression", compared=False, reason="no values on these samples")


def _rows(matched: int) -> OutputQuality:
    rows = FoundRows(100, 100, matched, matched, "overlap", 3, 16)
    return OutputQuality("boxes", sqnr_db=40.0, rows=rows, error=2 * (1 - matched / 100))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (OutputQuality("regression", sqnr_db=9.0), "9.0 dB, at least 12 dB needed"),
        (
            OutputQuality("regression", sqnr_db=40, worst_slice=WorstSlice(1, 7, -3.0)),
            "-3.0 dB (index 7 of axis 1), at least 12 dB needed",
        ),
        (
            OutputQuality("classes", sqnr_db=40, about_mean_db=5.0),
            "5.0 dB (about its means), at least 12 dB needed",
        ),
        (
            OutputQuality("state", sqnr_db=40, steps=8, after_steps_db=4.0),
            "4.0 dB (after 8 steps of feeding back), at least 12 dB needed",
        ),
        (
            OutputQuality("state", sqnr_db=18.0),
            "state 'y' at 18.0 dB, at least 20 dB needed",
        ),
        (
            OutputQuality("indices", agreement=90.0, error=0.1),
            "10.0% of what 'y' decides differs, at most 6% may",
        ),
        (
            _rows(96),
            "recall 96.0 %, precision 96.0 % of the rows of 'y', at least 97 % needed",
        ),
        (OutputQuality("regression", fault="sample 2: NaN"), "output 'y', sample 2: NaN"),
        (NOTHING, "no output could be compared, so nothing shows that it answers right"),
    ],
)
def test_what_is_too_far_off(output: OutputQuality, words: str) -> None:
    assert _said(y=output) == words


def test_what_is_close_enough() -> None:
    assert _said(y=GOOD) == _said(y=_rows(97)) == _said(y=GOOD, n=NOTHING) == ""
    assert _said(y=OutputQuality("indices", agreement=95.0, error=0.05)) == ""


def test_the_users_floor_is_one_of_decibels() -> None:
    assert _said(38.0, y=GOOD) == "35.0 dB (about its means), at least 38 dB asked"
    assert _said(5.0, y=OutputQuality("regression", sqnr_db=9.0)) == ""
    assert "at most 6%" in _said(5.0, y=OutputQuality("indices", agreement=90.0, error=0.1))
    assert _said(5.0, y=OutputQuality("state", sqnr_db=9.0)) == ""


FAR = OutputQuality("classes", sqnr_db=9.0, agreement=98.0)


@pytest.mark.parametrize(
    ("limits", "held"),
    [
        ({}, set()),
        ({"min_sqnr_db": 5.0}, set()),
        ({"min_agreement": 95.0}, {"y"}),
        ({"max_drop": 1.0}, {"y", "z"}),
    ],
)
def test_decisions_that_a_limit_holds_need_no_floor(limits: Any, held: set[str]) -> None:
    graph = io.load(MODELS["cnn"]())
    metric = FunctionMetric("any", lambda outputs, labels: 0.0)
    means = staged(graph, judged=False, limits=Limits(**limits), metric=metric)[1]
    names = graph.main.outputs
    assert len(names) == 2
    outputs = {names[0]: FAR, names[1]: GOOD}
    quality = Quality({name: each.sqnr_db for name, each in outputs.items()}, outputs=outputs)
    found = held_outputs(quality, means)
    assert found == {name for name, short in zip(names, "yz", strict=True) if short in held}
    far = too_far(quality, None, found)
    assert bool(far) == (names[0] not in found)


def test_the_worst_of_several_outputs_is_named() -> None:
    bad = OutputQuality("regression", sqnr_db=9.0)
    assert _said(a=GOOD, b=bad) == "9.0 dB of 'b', at least 12 dB needed"
    assert too_far(None, None).startswith("no output could be compared")
