"""Limits as asked and as measured, and what is done about one that nothing can measure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.contract.settings import Limits
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import DataError, Need, UsageError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.report.words import met as verdict
from graphopt.run.judge import Judge
from graphopt.run.limits import (
    broken_by,
    broken_exactness,
    check_limits,
    limit_records,
    limited_metric,
    lossless_floor,
)
from graphopt.run.means import Means
from graphopt.run.metrics import FunctionMetric
from graphopt.run.quality import Caveat, Fresh, Metric, Quality
from graphopt.run.record import Broken, LimitRecord, PassRecord
from graphopt.run.stage import Stage
from graphopt.tasks.quality import OutputQuality
from graphopt.testing import MODELS, model_from_text, staged


def means_of(**limits: Any) -> Means:
    return staged(MODELS["cnn"](), judged=False, limits=Limits(**limits))[1]


def rolled_back(broken: Broken, sqnr_db: float | None) -> PassRecord:
    words = str(broken)
    return PassRecord(
        "mask-weights", "", "rolled back", words, 0.0, [], [], 0, None, sqnr_db, broken=broken
    )


@pytest.mark.parametrize(
    ("asked", "found", "met"), [(20.0, 25.0, True), (20.0, 20.0, True), (20.0, 19.0, False)]
)
def test_least_sqnr(asked: float, found: float, met: bool) -> None:
    quality = Quality({"y": found, "z": 60.0, "n": None})
    limits = limit_records(means_of(min_sqnr_db=asked), quality, [])
    assert limits == [LimitRecord("min_sqnr_db", asked, found, met)]


@pytest.mark.parametrize(("after", "met"), [(79.0, True), (78.0, True), (77.5, False)])
def test_most_drop(after: float, met: bool) -> None:
    quality = Quality({"y": 30.0}, metric=Metric("top-1", 80.0, after))
    limits = limit_records(means_of(max_drop=2.0), quality, [])
    assert limits == [LimitRecord("max_drop", 2.0, 80.0 - after, met)]


@pytest.mark.parametrize(("least", "surely"), [(21.0, True), (19.0, False), (None, True)])
def test_a_limit_that_fresh_samples_may_break_is_not_surely_met(
    least: float | None, surely: bool
) -> None:
    quality = Quality({"y": 30.0, "z": 22.0}, fresh=Fresh({"y": 25.0, "z": least or 28.0}))
    (record,) = limit_records(means_of(min_sqnr_db=20.0), quality, [])
    assert (record.met, record.measured, record.surely) == (True, 22.0, surely)
    assert record.fresh == (least or 25.0)


def test_what_fresh_samples_give_is_as_far_below_the_whole_as_these_are() -> None:
    about = OutputQuality("regression", sqnr_db=138.0, about_mean_db=38.0)
    fresh = Fresh({"y": 137.0, "z": 50.0, "n": None})
    quality = Quality(
        {"y": 138.0, "z": 51.0, "n": None},
        fresh=fresh,
        outputs={"y": about, "z": OutputQuality("regression", sqnr_db=51.0)},
    )
    assert quality.fresh_db == 37.0
    (record,) = limit_records(means_of(min_sqnr_db=37.5), quality, [])
    assert (record.met, record.surely, record.fresh) == (True, False, 37.0)
    assert Quality({"y": 1.0}).fresh_db is None


def test_a_drop_that_nobody_measured_is_not_met() -> None:
    limits = limit_records(means_of(max_drop=2.0), Quality({"y": 30.0}), [])
    assert limits == [LimitRecord("max_drop", 2.0, None, False)]


@pytest.mark.parametrize(("known", "measured"), [(11.0, 11.0), (None, 60.0)])
def test_a_limit_that_cost_a_pass_is_not_met(known: float | None, measured: float) -> None:
    passes = [rolled_back(Broken("min-sqnr", 20.0, 11.0, "y"), known)]
    quality = Quality({"y": 60.0}, metric=Metric("top-1", 80.0, 80.0))
    assert limit_records(means_of(min_sqnr_db=20.0, max_drop=2.0), quality, passes) == [
        LimitRecord(
            "min_sqnr_db", 20.0, measured, False, taken_back=("mask-weights",), written=60.0
        ),
        LimitRecord("max_drop", 2.0, 0.0, True),
    ]


@pytest.mark.parametrize(
    ("agreement", "met", "words"),
    [
        (99.0, True, None),
        (98.0, True, None),
        (97.5, False, "min-agreement asks 98 %, 97.50 % are the same"),
        (None, False, "min-agreement asks 98 %, and no output decides anything"),
    ],
)
def test_least_agreement(agreement: float | None, met: bool, words: str | None) -> None:
    asked = Limits(min_agreement=98.0)
    quality = Quality({"y": 30.0}, agreement_top1=agreement)
    broken = broken_by(quality, asked)
    assert (broken and str(broken)) == words
    limits = limit_records(means_of(min_agreement=98.0), quality, [])
    assert limits == [LimitRecord("min_agreement", 98.0, agreement, met)]


def test_an_agreement_that_cost_a_pass_is_not_met() -> None:
    passes = [rolled_back(Broken("min-agreement", 98.0, 90.0), None)]
    quality = Quality({"y": 60.0}, agreement_top1=100.0)
    limits = limit_records(means_of(min_agreement=98.0), quality, passes)
    assert limits == [
        LimitRecord("min_agreement", 98.0, 90.0, False, taken_back=("mask-weights",), written=100.0)
    ]
    assert verdict(limits[0]) == "NOT MET, so mask-weights taken back; written without: 100.00"


def test_a_metric_limit_that_cost_a_pass_is_not_met() -> None:
    passes = [rolled_back(Broken("max-drop", 2.0, 3.0), None)]
    quality = Quality({"y": 60.0}, metric=Metric("top-1", 80.0, 80.0))
    limits = limit_records(means_of(max_drop=2.0), quality, passes)
    assert limits == [
        LimitRecord("max_drop", 2.0, 3.0, False, taken_back=("mask-weights",), written=0.0)
    ]


def test_a_drop_from_nothing_is_refused() -> None:
    """Labels that do not belong to the samples hold no limit."""
    nothing = Metric("top1", 0.0, 0.0, output="y")
    quality = Quality({"y": 60.0}, metric=nothing)
    with pytest.raises(DataError, match=r"top1 of the model as it came is 0\.00 by these labels"):
        limit_records(means_of(max_drop=2.0), quality, [])
    with pytest.raises(DataError, match="nothing to measure"):
        broken_by(quality, Limits(max_drop=2.0))
    losses = Quality({"y": 60.0}, metric=Metric("function", -0.3, -0.3))
    assert limit_records(means_of(max_drop=2.0), losses, [])[0].met


def metric(outputs: Any, labels: Any) -> float:
    """Share of samples in which the answer is class 0; labels say nothing."""
    return float(100 * (np.asarray(outputs[0]).argmax(-1) == 0).mean())


class Labelled(SyntheticSamples):
    @property
    def labels(self) -> Any:
        return np.zeros(self.count, np.int64)


def measured(function: Any) -> tuple[Stage, Means]:
    graph = io.load(MODELS["cnn"]())
    return staged(
        graph,
        limits=Limits(max_drop=5.0),
        metric=FunctionMetric("class 0", function),
        evaluation=Labelled(graph, count=4),
    )


def test_the_metric_is_measured_against_the_reference() -> None:
    stage, means = measured(metric)
    assert _fall(stage, means) == 0
    worse = stage.graph.copy()
    bias = worse.main.constant("B4")
    assert bias is not None
    never_0 = np.where(np.arange(bias.shape[0]) == 0, -1e6, bias.values)
    bias.set(never_0.astype(np.float32))
    before = metric([_answers(means.reference)], None)
    assert _fall(Stage(worse, means), means) == before > 0


def test_a_metric_that_is_not_a_number_has_fallen_by_any_amount() -> None:
    values = iter([1.0, float("nan")])
    assert _fall(*measured(lambda outputs, labels: next(values))) == float("inf")


def _fall(stage: Stage, means: Means) -> float:
    found = limited_metric(stage, means)
    assert found is not None
    return found.fall


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (Metric("top1", 80.0, 70.0), "max-drop allows 2, top1 falls by 10"),
        (Metric("mse", 1.0, 4.5, higher_is_better=False), "max-drop allows 2, mse rises by 3.5"),
        (Metric("top1", 80.0, 79.0), None),
        (Metric("mse", 4.0, 1.0, higher_is_better=False), None),
    ],
)
def test_a_drop_says_which_way_the_metric_goes(metric: Metric, words: str | None) -> None:
    broken = broken_by(Quality({"y": 30.0}, metric=metric), Limits(max_drop=2.0))
    assert (None if broken is None else str(broken)) == words


def _answers(graph: Graph) -> Any:
    judge = Judge(graph, Labelled(graph, count=4), "eval", threads=1)
    return np.concatenate([sample.answers["y"] for sample in judge.samples])


def test_a_drop_can_only_be_limited_with_labels() -> None:
    stage, means = staged(MODELS["cnn"](), judged=False)
    check_limits(means, Caveat())
    assert limited_metric(stage, means) is None
    asked = means_of(max_drop=1.0)
    with pytest.raises(UsageError, match="max-drop needs evaluation samples with labels") as usage:
        check_limits(asked, Caveat())
    assert usage.value.needs == (Need.EVALUATION,)
    samples = SyntheticSamples(asked.reference, count=2)
    _, given = staged(MODELS["cnn"](), limits=Limits(max_drop=1.0), evaluation=samples, judged=True)
    with pytest.raises(DataError, match="the evaluation samples have none; add an array 'labels'"):
        check_limits(given, Caveat())
    with pytest.raises(DataError, match="max-drop has nothing to measure: they fit none") as caught:
        check_limits(given, Caveat("they fit none", (Need.METRIC,)))
    assert caught.value.needs == (Need.METRIC,)


def test_half_precision_may_lose_more() -> None:
    assert lossless_floor(io.load(MODELS["cnn"]())) == 90
    assert lossless_floor(io.load(MODELS["float16"]())) == 45
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (%s[n] x) => (%s[n] y) { h = Cast<to = %d>(x) y = CastLike(h, x) }"""
    for port, between, floor in (("float", 10, 45), ("float", 1, 90), ("bfloat16", 1, 25)):
        model = model_from_text(text % (port, port, between))
        assert lossless_floor(io.load(model)) == floor


@pytest.mark.parametrize(
    ("model", "own", "found", "asked"),
    [
        ("cnn", None, 89.0, 90.0),
        ("cnn", None, 91.0, None),
        ("float16", 60.0, 44.0, 45.0),
        ("float16", 60.0, 46.0, None),
        ("float16", 36.0, 31.0, None),  # the file differs from itself by as much
        ("float16", 36.0, 29.0, 30.0),
    ],
)
def test_half_precision_may_lose_twice_what_rounding_costs_it(
    model: str, own: float | None, found: float, asked: float | None
) -> None:
    _, means = staged(MODELS[model]())
    assert means.judge is not None
    means.judge._rounding = None if own is None else Quality({"y": own, "n": None})
    broken = broken_exactness(Quality({"y": found, "n": None}), means)
    assert broken == (None if asked is None else Broken("lossless", asked, found, "y"))


@pytest.mark.parametrize(("kind", "least", "most"), [("float16", 40, 90), ("float", 100, 301)])
def test_rounding_is_what_the_file_differs_by_from_itself(
    kind: str, least: float, most: float
) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g ({kind}[1,8,4,4] x) => ({kind}[1,16,4,4] y) {{
        c = Conv (x, w) y = BatchNormalization (c, s, s, s, s) }}"""
    dtype = np.float16 if kind == "float16" else np.float32
    values = np.random.default_rng(0).normal(size=(16, 8, 1, 1))
    weights = {"w": values.astype(dtype), "s": np.linspace(0.3, 1, 16).astype(dtype)}
    _, means = staged(model_from_text(text, weights))
    assert means.judge is not None
    own = means.judge.rounding.sqnr_db["y"]
    assert own is not None and least < own < most
