"""Standard errors of what samples show, and how much of a limit is used up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphopt.contract.settings import Limits
from graphopt.run.margins import agreement_error, drop_error, used_by
from graphopt.run.quality import Metric, Quality
from graphopt.tasks.quality import OutputQuality


def quality(fall: float, agreement: float, samples: int = 1000, name: str = "top1") -> Quality:
    output = OutputQuality("classes", sqnr_db=20.0, agreement=agreement)
    return Quality(
        {"y": 20.0},
        outputs={"y": output},
        samples=samples,
        metric=Metric(name, 80.0, 80.0 - fall, "y"),
    )


def test_the_error_of_a_drop_bounds_that_of_paired_decisions() -> None:
    rng = np.random.default_rng(0)
    right = rng.random((2000, 500)) < 0.8
    differs = rng.random(right.shape) < 0.1
    after = np.where(differs, rng.random(right.shape) < 0.3, right)
    falls = 100 * (right.mean(axis=1) - after.mean(axis=1))
    error = drop_error(quality(1.0, 90.0, 500))
    assert error is not None
    assert error == pytest.approx(100 * math.sqrt(0.1 / 500), rel=0.01)
    assert 0.6 * error < falls.std() < error


def test_what_is_no_share_of_decisions_has_none() -> None:
    assert drop_error(quality(1.0, 90.0, name="mse")) is None
    assert drop_error(Quality({"y": 20.0})) is None


def test_the_error_of_an_agreement_is_binomial() -> None:
    assert agreement_error(quality(0.0, 96.0, 400)) == pytest.approx(0.98, abs=0.03)
    assert agreement_error(Quality({"y": 20.0})) is None


def test_where_all_agree_others_may_not() -> None:
    assert agreement_error(quality(0.0, 100.0, 100)) == pytest.approx(1.0, rel=0.05)
    assert drop_error(quality(0.0, 100.0, 100)) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(
    ("limits", "used"),
    [
        (Limits(max_drop=2.0), (0.5 + 1.0) / 2.0),
        (Limits(max_drop=0.0), math.inf),
        (Limits(min_agreement=80.0), (10 + 0.9487) / 20),
        (Limits(min_sqnr_db=10.0), 0.1),
        (Limits(min_sqnr_db=23.0, max_drop=2.0), 10**0.3),
    ],
)
def test_how_much_of_limits_is_used(limits: Limits, used: float) -> None:
    assert used_by(quality(0.5, 90.0), limits) == pytest.approx(used, rel=0.01)


def test_what_cannot_be_measured_uses_all_of_it() -> None:
    nothing = Quality({"y": None})
    for limits in (Limits(max_drop=1.0), Limits(min_agreement=90.0)):
        assert used_by(nothing, limits) == math.inf
    assert used_by(quality(-3.0, 90.0), Limits(max_drop=0.0)) == 0.0
