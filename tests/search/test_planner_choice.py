"""The planner's choice: what is proposed, how it is weighed, and what is never chosen.

Nothing is timed here: latencies are given by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from graphopt.contract.settings import Limits
from graphopt.contract.spec import parse_passes
from graphopt.data import open_data
from graphopt.data.synthetic import SyntheticSamples
from graphopt.deadline import Deadline
from graphopt.errors import PassError
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.observe.run import observe
from graphopt.passes.quantize import QuantizeStatic
from graphopt.run import verify
from graphopt.run.means import Means
from graphopt.run.metrics import FunctionMetric
from graphopt.run.quality import Quality
from graphopt.run.sequence import run_passes
from graphopt.run.stage import Stage
from graphopt.runtime.latency import SAME, Ratio, Timed, Times, joint
from graphopt.search import candidate as weighing
from graphopt.search import planner, trials
from graphopt.search.called import called
from graphopt.search.candidate import Candidate, Kind, choose
from graphopt.search.mixing import MixedForecast
from graphopt.search.planner import search
from graphopt.search.proposals import Proposal, proposals_for
from graphopt.testing import MODELS, model_from_text, staged

STATIC, WEIGHTS = "int8 static", "int8 weights only"
CNN = """<ir_version: 8, opset_import: ["" : 12]>
g (float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y) {
    [in] a = Conv(x, w) r = Relu(a)
    [odd] b = Conv(r, v) s = Relu(b)
    [mid] c = Conv(s, v) t = Relu(c)
    [out] y = Conv(t, u)
}"""


def cnn() -> Graph:
    graph = io.load(
        model_from_text(CNN, {"w": (32, 3, 1, 1), "v": (32, 32, 1, 1), "u": (4, 32, 1, 1)})
    )
    next(node for node in graph.main.nodes if node.name == "odd").name = 'odd, ["name"] \\*'
    return graph


def staged_of(graph: Graph, **options: Any) -> tuple[Stage, Means]:
    return staged(graph, count=4, target="x86-avx2", **options)


class Falling:
    """A metric that falls by so much from the reference to a model on integers."""

    def __init__(self, fall: float) -> None:
        self.fall, self.reference = fall, b""

    def __call__(self, outputs: Any, labels: Any) -> float:
        answer = np.asarray(outputs[0]).tobytes()
        self.reference = self.reference or answer
        return 80.0 if answer == self.reference else 80.0 - self.fall


class Labelled(SyntheticSamples):
    @property
    def labels(self) -> Any:
        return np.zeros(self.count, np.int64)


@pytest.fixture
def ratios(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Latency against float by the name of the candidate, or how its name begins."""
    given = {STATIC: 0.5, WEIGHTS: 1.0}

    def fake(base: Candidate, candidates: Sequence[Candidate], means: Means) -> list[Ratio]:
        begins = [max((n for n in given if c.name.startswith(n)), key=len) for c in candidates]
        return [Ratio(given[name], 0.02) for name in begins]

    monkeypatch.setattr(trials, "ratios", fake)
    monkeypatch.setattr(verify, "side_by_side", untimed)
    monkeypatch.setattr(planner, "pruned_forms", lambda *_: ([], []))  # see test_pruned
    return given


def untimed(graphs: Sequence[Graph], *_: Any, **__: Any) -> tuple[list[Timed], int]:
    """The proof's clock, which finds all models alike."""
    return [Timed(Times((1.0,)), SAME)] * len(graphs), 1


def candidate(
    name: str,
    size: int,
    ratio: float | None,
    db: float | None,
    problem: str = "",
    kind: Kind = "static",
) -> Candidate:
    return Candidate(
        kind,
        name,
        [],
        staged_of(io.load(MODELS["no-layers"]()), judged=False)[0],
        [],
        size,
        None if ratio is None else Ratio(ratio, 0.02),
        None if db is None else Quality({"y": db}),
        problem,
    )


FLOAT = candidate("float", 1000, None, None, kind="float")
MEANS = staged_of(io.load(MODELS["no-layers"]()), judged=False)[1]


@pytest.mark.parametrize(
    ("size", "ratio", "db", "expected"),
    [
        (1000, 0.5, 40.0, math.log(0.5)),
        (250, 1.0, 40.0, 0.25 * math.log(0.25)),
        (1000, 0.5, 18.0, math.log(0.5) + 0.4),
        (1000, 1.015, 28.0, 0.0),  # no difference beyond the spread of the clock
        (1000, 0.985, 28.0, 0.0),
        (1000, 0.5, None, math.log(0.5)),  # no output of which an error could be told
    ],
)
def test_time_bytes_and_closeness_are_weighed(
    size: int, ratio: float, db: float | None, expected: float
) -> None:
    assert candidate("int8", size, ratio, db).cost(1000) == pytest.approx(expected)


def test_what_holds_the_limits_of_the_user_is_close_enough() -> None:
    assert replace(candidate("int8", 1000, 0.5, 18.0), limited=True).cost(1000) == math.log(0.5)


def test_the_float_model_is_the_measure() -> None:
    assert FLOAT.cost(1000) == 0


def test_the_cheapest_is_chosen() -> None:
    fast, small = candidate("fast", 900, 0.5, 30), candidate("small", 250, 1.0, 40)
    assert choose(FLOAT, [small, fast]) is fast
    assert choose(FLOAT, [small]) is small


def test_a_candidate_with_a_problem_is_never_chosen() -> None:
    best = candidate("best", 10, 0.01, 60, problem="the metric falls")
    second = candidate("second", 900, 0.9, 60)
    assert choose(FLOAT, [best, second]) is second
    assert choose(FLOAT, [best]) is FLOAT


def test_a_small_difference_leaves_what_was_proposed_first() -> None:
    first, better = candidate("first", 900, 0.50, 30), candidate("better", 900, 0.49, 30)
    assert choose(FLOAT, [first, better]) is first
    assert choose(FLOAT, [first, candidate("much better", 900, 0.45, 30)]).name == "much better"
    assert choose(FLOAT, [candidate("hardly", 1000, 0.97, 30)]) is FLOAT


def test_of_near_equals_the_more_accurate_one_wins() -> None:
    fast, exact = candidate("fast", 900, 0.49, 30), candidate("exact", 900, 0.50, 45)
    assert choose(FLOAT, [fast, exact]) is exact
    assert choose(FLOAT, [exact, fast]) is exact
    alike = candidate("alike", 900, 0.50, 30.9)
    assert choose(FLOAT, [fast, alike]) is fast
    slower = candidate("slower", 900, 0.56, 60)
    assert choose(FLOAT, [fast, slower]) is fast
    hardly = candidate("hardly", 990, 0.98, 60)  # gains hardly more than the cleaned model
    assert choose(FLOAT, [candidate("least", 940, 0.96, 30), hardly]).name == "least"


def test_what_another_form_beats_is_not_taken() -> None:
    more, less = candidate("more", 400, 0.46, 30), candidate("less", 300, 0.45, 31)
    assert choose(FLOAT, [more, less]) is less
    assert choose(FLOAT, [less, more]) is less
    late = candidate("late", 360, 0.47, 31)  # no difference that a clock can tell
    assert choose(FLOAT, [more, late]) is late
    further = candidate("further", 390, 0.45, 29.9)
    assert choose(FLOAT, [more, further]) is more  # each is better in something
    best = candidate("best", 200, 0.45, 31.5)
    assert choose(FLOAT, [more, less, best]) is best


@pytest.mark.parametrize(
    ("done", "asked", "expected"),
    [
        ("quantize-static,quantize-weights", ("static", STATIC), ("static", STATIC)),
        ("quantize-weights", ("static", STATIC), ("weights", WEIGHTS)),
        (
            "quantize-weights",
            ("smoothed", "int8 dynamic, smoothed"),
            ("weights", WEIGHTS),
        ),
        (
            "smooth-activations,quantize-dynamic",
            ("smoothed", "int8 dynamic, smoothed"),
            ("smoothed", "int8 dynamic, smoothed"),
        ),
        (
            "scale-rows,quantize-dynamic",
            ("smoothed", "int8 dynamic, smoothed"),
            ("smoothed", "int8 dynamic, smoothed"),
        ),
        (
            "quantize-static{exclude=a}",
            ("mixed", f"{STATIC}, 1 layer float"),
            ("mixed", f"{STATIC}, 1 layer float"),
        ),
        ("fuse-batchnorm", ("static", STATIC), ("static", STATIC)),
    ],
)
def test_a_form_is_called_by_what_ran(
    done: str, asked: tuple[Kind, str], expected: tuple[Kind, str]
) -> None:
    assert called(parse_passes(done), *asked) == expected


def test_those_close_to_the_best_are_timed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[str] = []

    def fake(base: Candidate, candidates: Sequence[Candidate], means: Means) -> list[Ratio]:
        timed.extend(item.name for item in candidates)
        return [Ratio(0.9, 0.01 if item.name == "steadier" else 0.5) for item in candidates]

    monkeypatch.setattr(trials, "ratios", fake)
    steadier, shakier = candidate("steadier", 900, 0.5, 30), candidate("shakier", 900, 0.52, 30)
    far = candidate("far", 900, 0.8, 30)
    trials.weigh_again(FLOAT, [steadier, shakier, far], MEANS)
    assert timed == ["steadier", "shakier"]
    assert steadier.ratio == joint(Ratio(0.5, 0.02), Ratio(0.9, 0.01))
    assert shakier.ratio == joint(Ratio(0.52, 0.02), Ratio(0.9, 0.5))


def test_float_stays_where_nothing_gains() -> None:
    far = candidate("far", 900, 0.9, 15)
    same = candidate("same", 1000, 1.0, 60)
    assert choose(FLOAT, [far, same]) is FLOAT


@pytest.mark.parametrize(
    ("limits", "db", "ratio", "words"),
    [
        ({}, 11.9, 0.5, "11.9 dB, at least 12 dB needed"),
        ({}, 12.1, 0.5, ""),
        ({"min_sqnr_db": 30.0}, 29.0, 0.5, "29.0 dB, at least 30 dB asked"),
        ({"min_sqnr_db": 5.0}, 6.0, 0.5, ""),
        ({}, 40.0, 1.03, "slower than float"),
        ({}, 40.0, 1.01, ""),
    ],
)
def test_problems(limits: dict[str, Any], db: float, ratio: float, words: str) -> None:
    means = replace(MEANS, limits=Limits(**limits))
    problem = trials._problem(candidate("int8", 10, ratio, db), means)
    assert words in problem
    assert bool(problem) is bool(words)


@pytest.mark.parametrize(
    ("model", "samples", "names"),
    [
        ("cnn", True, [STATIC, WEIGHTS]),
        ("cnn", False, [WEIGHTS]),
        ("mlp", False, ["int8 dynamic", WEIGHTS]),
        (
            "transformer",
            True,
            ["int8 dynamic, smoothed", "int8 dynamic", "int8 static, smoothed", WEIGHTS],
        ),
        ("no-layers", True, [WEIGHTS]),
    ],
)
def test_proposals_suit_model_and_data(model: str, samples: bool, names: list[str]) -> None:
    stage, means = staged_of(io.load(MODELS[model]()), calibrated=samples, judged=False)
    assert [item.name for item in proposals_for(stage, means)] == names


FREE = "(float[N, 3, H, W] x) => (float[N, 4, A, B] y)"


@pytest.mark.parametrize(
    ("judged", "names"),
    [
        (True, [STATIC, WEIGHTS]),
        (
            False,  # no run says what its layers cost, so that neither kind is left out
            [
                "int8 dynamic, smoothed",
                "int8 dynamic",
                "int8 static, smoothed",
                STATIC,
                WEIGHTS,
            ],
        ),
    ],
)
def test_the_sizes_of_a_sample_tell_what_suits(judged: bool, names: list[str]) -> None:
    text = CNN.replace("(float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y)", FREE).replace(
        "y = Conv(t, u)", "p = GlobalAveragePool(t) f = Flatten(p) y = MatMul(f, h)"
    )
    shapes = {"w": (32, 3, 1, 1), "v": (32, 32, 1, 1), "h": (32, 4)}
    graph = io.load(model_from_text(text.replace("[N, 4, A, B]", "[N, 4]"), shapes))
    pictures = open_data({"x": np.ones((4, 3, 8, 8), np.float32)}, graph)
    stage, means = staged_of(graph, samples=pictures, judged=judged)
    assert [item.name for item in proposals_for(stage, means)] == names


def test_what_was_not_run_has_no_latency_and_says_so() -> None:
    choice = search(*staged_of(cnn(), judged=False))
    rows = {row.name: row for row in choice.candidates}
    assert rows["float, cleaned"].verdict == "the measure; floor 12 dB"
    for row in (rows[STATIC], rows[WEIGHTS]):
        assert row.latency_ratio is None
        assert row.verdict == "not run, so nothing shows that it answers right"
    assert choice.messages == [
        "nothing was run, so auto keeps what needs no proof; the preset int8-weights stores the "
        "weights in 8 bits without a run"
    ]


def test_the_best_candidate_becomes_the_graph(ratios: dict[str, float]) -> None:
    ratios[f"{STATIC}, "] = 0.95  # with layers in float
    choice = search(*staged_of(cnn()))
    rows = {row.name: row for row in choice.candidates}
    assert list(rows)[:3] == ["float, cleaned", STATIC, WEIGHTS]
    assert [name for name, row in rows.items() if row.chosen] == [STATIC]
    assert choice.messages == [
        "the same samples chose among 3 forms; figures of others may be a little lower"
    ]
    assert {node.op_type for node in choice.stage.graph.main.nodes} >= {"QuantizeLinear"}
    origin = choice.stage.float_stage.graph
    assert "QuantizeLinear" not in {node.op_type for node in origin.main.nodes}
    names = [record.name for record in choice.records]
    assert names.index("upgrade-opset") < names.index("quantize-static")
    static = rows[STATIC]
    assert (static.bytes, static.latency_ratio) == (io.size(choice.stage.graph), 0.5)
    assert static.sqnr_db is not None
    assert "quantize-static" in static.spec
    assert static.verdict.startswith("gains ")
    base = rows["float, cleaned"]
    assert (base.latency_ratio, base.verdict) == (
        1.0,
        "the measure; floor 12 dB",
    )
    again, _ = run_passes(*staged_of(cnn()), choice.passes)
    assert (
        io.whole(again.graph).SerializeToString()
        == io.whole(choice.stage.graph).SerializeToString()
    )


def test_nothing_faster_keeps_the_cleaned_float_model(ratios: dict[str, float]) -> None:
    ratios.update({STATIC: 1.5, WEIGHTS: 1.5})
    choice = search(*staged_of(cnn()))
    assert [row.name for row in choice.candidates if row.chosen] == ["float, cleaned"]
    assert {row.verdict for row in choice.candidates[1:]} == {"slower than float"}
    assert choice.messages == ["no candidate is better than the cleaned float model, which is kept"]
    assert "QuantizeLinear" not in {node.op_type for node in choice.stage.graph.main.nodes}
    assert "quantize-static" not in {item.name for item in choice.passes}


def test_weights_only_where_integers_are_slow(ratios: dict[str, float]) -> None:
    ratios.update({STATIC: 1.5, WEIGHTS: 1.0})
    choice = search(*staged_of(cnn()))
    assert [row.name for row in choice.candidates if row.chosen] == [WEIGHTS]
    assert io.size(choice.stage.graph) < 0.7 * choice.candidates[0].bytes


def test_a_limit_that_no_candidate_keeps(ratios: dict[str, float]) -> None:
    table = search(*staged_of(cnn(), limits=Limits(min_sqnr_db=90.0))).candidates
    assert [row.name for row in table if row.chosen] == ["float, cleaned"]
    for row in table[1:]:
        assert row.sqnr_db is not None
        assert row.verdict.startswith(f"{row.sqnr_db:.1f} dB")
        assert row.verdict.endswith(", at least 90 dB asked")


def test_a_limit_of_decisions_where_nothing_is_decided(ratios: dict[str, float]) -> None:
    table = search(*staged_of(cnn(), limits=Limits(min_agreement=100.0))).candidates
    words = "min-agreement asks 100 %, and no output decides anything"
    assert [row.verdict for row in table[1:]] == [words] * (len(table) - 1)
    assert table[0].chosen


def test_a_metric_that_falls_too_far(ratios: dict[str, float]) -> None:
    graph = cnn()
    stage, means = staged_of(
        graph,
        limits=Limits(max_drop=1.0),
        metric=FunctionMetric("falling", Falling(5.0)),
        evaluation=Labelled(graph, count=2),
    )
    table = search(stage, means).candidates
    rows = {row.name: row for row in table}
    for name in (STATIC, WEIGHTS):
        assert rows[name].verdict == "falling falls by 5, at most 1 allowed"
        assert rows[name].metric == 75.0
    assert rows["float, cleaned"].chosen
    means = replace(means, metric=FunctionMetric("falling", Falling(1.0)))
    assert [row.name for row in search(stage, means).candidates if row.chosen] == [STATIC]


def test_strict_does_not_end_a_run_of_trials(ratios: dict[str, float]) -> None:
    limits = Limits(strict=True, min_sqnr_db=25.0)
    table = search(*staged_of(cnn(), limits=limits)).candidates
    assert len(table) >= 3


def test_without_data_only_what_needs_none_is_tried(ratios: dict[str, float]) -> None:
    table = search(*staged_of(cnn(), calibrated=False)).candidates
    assert [row.name for row in table] == ["float, cleaned", WEIGHTS]


def test_activations_are_observed_once(
    ratios: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    plain = observe

    def counting(graph: Graph, requests: Any, *rest: Any, **options: Any) -> Any:
        asked.append(sum(type(item).__name__ == "HistogramOf" for item in requests))
        return plain(graph, requests, *rest, **options)

    monkeypatch.setattr("graphopt.observe.observer.observe", counting)
    monkeypatch.setattr(weighing, "GOAL_DB", 500.0)
    monkeypatch.setattr(weighing, "_DB_WEIGHT", 0.0)
    monkeypatch.setattr(planner, "forecast_of", lambda *_: [])
    monkeypatch.setattr(planner, "worth_trying", lambda *_: (MIXTURES, ""))
    assert len(search(*staged_of(cnn())).candidates) > 3
    assert [count for count in asked if count] == [5]


LAYERS = ["mid", 'odd, ["name"] \\*', "out", "in"]
MIXTURES = [MixedForecast(tuple(LAYERS[:count]), 3.0, 0.0, 0) for count in (1, 2)]


def test_the_most_sensitive_layers_stay_float(
    ratios: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weighing, "GOAL_DB", 500.0)
    monkeypatch.setattr(planner, "forecast_of", lambda *_: [])
    monkeypatch.setattr(planner, "worth_trying", lambda *_: (MIXTURES, ""))
    stage, means = staged_of(cnn())
    base = Candidate("float", "", [], stage, [], 1000)
    lifted = planner._lift(base, means)
    static = trials.attempt(lifted, means, Proposal("static", STATIC, "quantize-static"))
    mixed, _ = planner._mixed(base, lifted, [static], means)
    assert [item.name for item in mixed] == [
        f"{STATIC}, {n} float" for n in ("1 layer", "2 layers")
    ]
    for count, item in enumerate(mixed, start=1):
        static_pass = next(p for p in item.passes if isinstance(p, QuantizeStatic))
        assert static_pass.exclude == tuple(LAYERS[:count])
        assert item.problem == ""


def test_when_the_time_is_over_no_more_layers_are_kept_float(
    ratios: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weighing, "GOAL_DB", 500.0)
    monkeypatch.setattr(planner, "forecast_of", lambda *_: [])
    monkeypatch.setattr(planner, "worth_trying", lambda *_: (MIXTURES, ""))
    stage, means = staged_of(cnn())
    base = Candidate("float", "", [], stage, [], 1000)
    lifted = planner._lift(base, means)
    static = trials.attempt(lifted, means, Proposal("static", STATIC, "quantize-static"))
    means = replace(means, deadline=Deadline(0.0))
    words = "no candidate with 1 layer float: the time limit of 0 s was over before it was tried"
    assert planner._mixed(base, lifted, [static], means) == ([], [words])


def test_a_form_under_way_when_the_time_is_over_is_given_up() -> None:
    stage, means = staged_of(cnn(), deadline=Deadline(0.0))
    lifted = planner._lift(Candidate("float", "", [], stage, [], 1000), means)
    late = trials.attempt(lifted, means, Proposal("static", STATIC, "quantize-static"))
    assert late.problem == "the time limit of 0 s was over before all samples were observed"


def test_what_the_time_does_not_suffice_for_is_told(ratios: dict[str, float]) -> None:
    choice = search(*staged_of(cnn(), deadline=Deadline(0.0)))
    assert [row.name for row in choice.candidates] == ["float, cleaned"]
    words = f"not tried: {STATIC}, {WEIGHTS}; the time limit of 0 s was over"
    assert choice.messages[0] == words


def test_a_form_that_was_given_up_is_told_and_what_came_of_it_counts_as_tried(
    ratios: dict[str, float],
) -> None:
    class Late(Deadline):
        """Over once somebody observes."""

        observed: ClassVar[list[str]] = []

        @property
        def over(self) -> bool:
            return bool(self.observed)

        def check(self, what: str) -> None:
            self.observed.append(what)
            super().check(what)

    choice = search(*staged_of(cnn(), deadline=Late(3.0)))
    assert [row.name for row in choice.candidates] == ["float, cleaned", WEIGHTS]
    words = f"given up under way: {STATIC}; the time limit of 3 s was over"
    assert choice.messages[0] == words


@pytest.mark.parametrize("db", [28.0, None])
def test_no_mixed_candidates_where_static_is_close_or_unknown(
    monkeypatch: pytest.MonkeyPatch, db: float | None
) -> None:
    def never(stage: Stage, means: Means) -> list[MixedForecast]:
        raise AssertionError

    monkeypatch.setattr(planner, "forecast_of", never)
    static = candidate(STATIC, 300, 0.5, db)
    assert planner._mixed(FLOAT, static, [static], MEANS) == ([], [])
    assert planner._mixed(FLOAT, static, [], MEANS) == ([], [])


@pytest.mark.parametrize("db", [15.0, 40.0])
def test_no_mixed_candidates_where_integers_are_slower(
    monkeypatch: pytest.MonkeyPatch, db: float
) -> None:
    def never(stage: Stage, means: Means) -> list[MixedForecast]:
        raise AssertionError

    monkeypatch.setattr(planner, "forecast_of", never)
    static = candidate(STATIC, 300, 1.4, db, problem="slower than float")
    assert planner._mixed(FLOAT, static, [static], MEANS) == ([], [])


def test_no_mixed_candidates_where_layers_cannot_be_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(stage: Stage, means: Means) -> list[MixedForecast]:
        raise PassError("not with this model")

    monkeypatch.setattr(planner, "forecast_of", refuse)
    static = candidate(STATIC, 300, 0.5, 10)
    words = "no candidate with sensitive layers in float: not with this model"
    assert planner._mixed(FLOAT, static, [static], MEANS) == ([], [words])


def test_mixed_follows_the_limit_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Stage] = []

    def layers(stage: Stage, means: Means) -> list[MixedForecast]:
        asked.append(stage)
        return []

    monkeypatch.setattr(planner, "forecast_of", layers)
    static = candidate(STATIC, 300, 0.5, 35)
    planner._mixed(FLOAT, static, [static], MEANS)
    assert asked == []
    broken = candidate(STATIC, 300, 0.5, 35, "35.0 dB, at least 40 dB asked")
    planner._mixed(FLOAT, broken, [broken], replace(MEANS, limits=Limits(min_sqnr_db=40.0)))
    assert asked == [broken.stage]


def test_no_lossy_form_is_taken_where_the_model_cannot_be_run(ratios: dict[str, float]) -> None:
    choice = search(*staged_of(cnn(), calibrated=False, judged=False))
    assert [row.name for row in choice.candidates if row.chosen] == ["float, cleaned"]
    assert choice.candidates[1].bytes < choice.candidates[0].bytes / 2
    assert not any(item.lossy for item in choice.passes)


def test_a_form_is_tried_under_one_name_only(
    ratios: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = [
        Proposal("weights", WEIGHTS, "quantize-weights"),
        Proposal("weights", f"{WEIGHTS}, again", "quantize-weights,eliminate-dead"),
    ]
    monkeypatch.setattr(planner, "proposals_for", lambda stage, means: twice)
    table = search(*staged_of(cnn(), calibrated=False)).candidates
    assert [row.name for row in table if row.latency_ratio is not None][1:] == [WEIGHTS]
