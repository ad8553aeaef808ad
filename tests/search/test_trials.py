"""What a form lacks that is judged within limits of the user's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphopt.contract.settings import Limits
from graphopt.graph import io
from graphopt.run.quality import Metric, Quality
from graphopt.runtime.latency import Ratio
from graphopt.search import trials
from graphopt.search.candidate import Candidate, Kind
from graphopt.search.trials import weigh
from graphopt.tasks.quality import OutputQuality
from graphopt.testing import MODELS, staged

STAGE, MEANS = staged(io.load(MODELS["cnn"]()))


def weighed(
    kind: Kind, fall: float, agreement: float, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> Candidate:
    """A form whose metric on 1000 samples fell, once it is weighed."""
    output = OutputQuality("classes", sqnr_db=20.0, agreement=agreement)
    metric = Metric("top1", 80.0, 80.0 - fall, "y")
    all_ = Quality({"y": 20.0}, outputs={"y": output}, samples=1000, metric=metric)
    monkeypatch.setattr(trials, "judged", lambda stages, means: [all_])
    monkeypatch.setattr(trials, "ratios", lambda base, items, means: [Ratio(0.5, 0.01)])
    item = Candidate(kind, "form", [], STAGE, [], 500, quality=Quality({"y": 20.0}), limited=True)
    weigh(item, [item], replace(MEANS, limits=limits))
    return item


@pytest.mark.parametrize(
    ("kind", "fall", "limits", "problem"),
    [
        ("static", 0.9, Limits(max_drop=1.0), ""),
        ("pruned", 0.4, Limits(max_drop=2.0), ""),
        ("static", 1.5, Limits(max_drop=1.0), "top1 falls by 1.5, at most 1 allowed"),
        ("pruned", 1.5, Limits(max_drop=1.0), "top1 falls by 1.5 +-0.78, at most 1 allowed"),
        (
            "pruned",
            0.5,
            Limits(max_drop=1.0),
            "top1 falls by 0.5 +-0.78 on the 1000 samples that it is chosen by: no standard error "
            "to spare",
        ),
        ("pruned", 0.5, Limits(min_agreement=90.0), ""),
        (
            "pruned",
            0.5,
            Limits(min_agreement=93.5),
            "94.00 % +-0.76 agree on the 1000 samples that it is chosen by: no standard error to "
            "spare",
        ),
        (
            "pruned",
            0.5,
            Limits(min_agreement=96.0),
            "min-agreement asks 96 %, 94.00 % are the same",
        ),
    ],
)
def test_what_was_brought_near_a_limit_needs_a_standard_error_to_spare(
    kind: Kind, fall: float, limits: Limits, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = weighed(kind, fall, 94.0, limits, monkeypatch)
    assert item.problem == problem
    assert item.used is not None
    assert (item.used > 1) is (bool(problem) or kind == "static")
    assert item.quality is not None
    assert item.quality.metric is not None
    assert item.quality.metric.fall == pytest.approx(fall)
