from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from graphopt.contract.settings import Limits
from graphopt.contract.spec import parse_passes
from graphopt.run.means import Means
from graphopt.run.quality import Quality
from graphopt.runtime.latency import Ratio
from graphopt.search import planner, spared
from graphopt.search.candidate import Candidate
from graphopt.search.spared import close_already
from graphopt.testing import networks
from graphopt.testing.stages import staged

SMOOTHED = "int8 dynamic, smoothed"
STAGE, MEANS = staged(networks.mlp())
BASE = Candidate("float", "float, cleaned", [], STAGE, [], 1000)
SPEC = "smooth-activations,quantize-dynamic"


def candidate(db: float, spec: str = SPEC, time: float = 0.4, problem: str = "") -> Candidate:
    quality = Quality(sqnr_db={"y": db}, samples=4)
    passes = parse_passes(spec)
    ratio = Ratio(time, 0.01)
    return Candidate("smoothed", SMOOTHED, passes, STAGE, [], 300, ratio, quality, problem)


def unproven(base: Candidate, tried: Sequence[Candidate], _: Means) -> tuple[Candidate, None]:
    return tried[0], None


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spared, "HELD_WEIGHTS_BYTES", 0)


@pytest.mark.parametrize(
    ("item", "limits", "close"),
    [
        (candidate(25.0), Limits(), True),
        (candidate(20.5), Limits(), True),
        (candidate(19.5), Limits(), False),
        (candidate(25.0), Limits(min_sqnr_db=26.0), False),
        (candidate(25.0, time=1.1), Limits(), False),
        (candidate(25.0, problem="it fails"), Limits(), False),
        (candidate(25.0, "smooth-activations,quantize-static"), Limits(), False),
    ],
)
@pytest.mark.usefixtures("large")
def test_a_form_is_close_if_it_holds_and_is_faster(
    item: Candidate, limits: Limits, close: bool
) -> None:
    found = close_already(BASE, STAGE, [item], replace(MEANS, limits=limits))
    assert found == (SMOOTHED if close else "")


def test_of_a_small_model_every_form_is_tried() -> None:
    assert close_already(BASE, STAGE, [candidate(25.0)], MEANS) == ""


@pytest.mark.usefixtures("large")
def test_what_was_not_tried_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(base: Candidate, tried: Sequence[Candidate], means: Means) -> list[Ratio]:
        return [Ratio(0.4, 0.01) for _ in tried]

    monkeypatch.setattr("graphopt.search.trials.ratios", fake)
    monkeypatch.setattr(planner, "pruned_forms", lambda *_: ([], []))
    monkeypatch.setattr(planner, "first_proven", unproven)
    monkeypatch.setattr(
        planner, "attempt", lambda lifted, means, proposal: replace(candidate(25.0), ratio=None)
    )
    choice = planner.search(STAGE, MEANS)
    assert [row.name for row in choice.candidates] == ["float, cleaned", SMOOTHED]
    told = f"not tried, since the model is large and {SMOOTHED} close: "
    assert any(message.startswith(told) for message in choice.messages)
